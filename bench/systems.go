package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// system is something that answers calls with their payload.
type system struct {
	name  string
	about string
	// serve starts the server side, which stop ends.
	serve func(ctx context.Context) (e endpoint, stop func(), err error)
	dial  func(ctx context.Context, e endpoint) (client, error)
	// js is set instead of these for what js/echo.mjs runs.
	js string
	// fits tells which loads make sense; nil: all.
	fits func(l load) bool
}

type client struct {
	call  callFunc
	close func()
}

// Names of the systems.
const (
	nameNative    = "meshctl"
	nameHandler   = "meshctl-handler"
	nameSocketIO  = "meshctl-socketio"
	nameGRPC      = "grpc"
	nameGRPCTLS   = "grpc-tls"
	nameNATS      = "nats"
	nameNATSTLS   = "nats-tls"
	nameWS        = "websocket"
	nameGWS       = "websocket-gws"
	nameCoder     = "websocket-coder"
	nameWSBatched = "websocket-batched-sealed"
	nameJS        = "js-socketio"
	nameJSCryptr  = "js-cryptr"
)

func systems() []system {
	return []system{
		{name: nameNative, about: "meshctl node to node, native link, sealed; the built-in echo, which is answered where it is read", serve: serveMesh(false, nil), dial: dialMesh(false)},
		{name: nameHandler, about: "the same with a handler of the program's own, on the pool of goroutines", serve: serveMesh(false, echoHandlers()), dial: dialMesh(false)},
		{name: nameSocketIO, about: "meshctl node to node, --link socketio, sealed with cryptr's envelope", serve: serveMesh(true, nil), dial: dialMesh(true)},
		{name: nameGRPC, about: "gRPC-go unary, raw bytes, plaintext", serve: serveGRPC(false), dial: dialGRPC},
		{name: nameGRPCTLS, about: "the same with TLS 1.3", serve: serveGRPC(true), dial: dialGRPC},
		{name: nameNATS, about: "NATS request-reply, server in the responder's process, plaintext", serve: serveNATS(false), dial: dialNATS},
		{name: nameNATSTLS, about: "the same with TLS 1.3", serve: serveNATS(true), dial: dialNATS},
		{name: nameWS, about: "bare WebSocket (gorilla), one message per call, plaintext", serve: serveWS, dial: dialWS},
		{name: nameGWS, about: "the same with lxzan/gws", serve: serveGWS, dial: dialGWS, fits: fitsLibraries},
		{name: nameCoder, about: "the same with coder/websocket", serve: serveCoder, dial: dialCoder, fits: fitsLibraries},
		{name: nameWSBatched, about: "bare WebSocket (gorilla), batches, AES-GCM per batch: the yardstick", serve: serveBatched, dial: dialBatched},
		{name: nameJS, about: "JavaScript socket.io 4 echo with acknowledgement, plaintext", js: "plain"},
		{name: nameJSCryptr, about: "JavaScript socket.io 4, each message sealed by cryptr, as the original does", js: "cryptr",
			fits: func(l load) bool { return l.InFlight == 1 && l.Payload == 200 }},
	}
}

func findSystem(name string) (system, bool) {
	for _, s := range systems() {
		if s.name == name {
			return s, true
		}
	}
	return system{}, false
}

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// selfSigned is a certificate for 127.0.0.1, and its PEM.
func selfSigned() (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
	return cfg, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// trusting is the client's side of selfSigned.
func trusting(ca []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("read the server's certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}, nil
}
