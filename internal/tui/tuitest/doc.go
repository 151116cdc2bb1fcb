// Package tuitest makes data to draw: pictures that are the same every time, random ones
// with everything that a network may contain, and a source that is alive.
package tuitest
