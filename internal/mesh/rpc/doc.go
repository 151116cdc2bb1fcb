// Package rpc matches requests with responses over links: Pending is the caller's
// half, Server the answering one. Neither knows who the peers are or what they may
// do; that is the node's business.
package rpc
