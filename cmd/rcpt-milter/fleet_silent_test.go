package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// silentURLs returns the URLs of hosts that accept connections and say nothing. reached gets a value for
// each connection.
func silentURLs(t *testing.T, n int) (urls string, reached <-chan struct{}) {
	t.Helper()
	accepted := make(chan struct{}, 1000)
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				accepted <- struct{}{}
			}
		}()
		all = append(all, "nats://"+l.Addr().String())
	}
	return strings.Join(all, ", "), accepted
}

// TestFleetSilentEngine: status, a reload and the end of a daemon do not wait for an engine that accepts
// connections and says nothing. An attempt to connect takes 4 seconds for each of its hosts.
func TestFleetSilentEngine(t *testing.T) {
	urls, reached := silentURLs(t, 3)
	hub := newRig(t, fmt.Sprintf("publish: {stream: {urls: [%s]}}", urls))
	d := hub.serve()
	<-reached
	others, reached := silentURLs(t, 3)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"status", func() { hub.status() }},
		{"reload", func() {
			hub.edit(urls, others)
			hub.want(exitOK, "reload")
		}},
		{"stop", func() {
			<-reached
			d.stop()
		}},
	} {
		began := time.Now()
		step.do()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s took %v", step.name, took)
		}
	}
}
