package adsim

import (
	"net"
	"testing"
	"time"
)

// TestUpWaitsForItsPort has another listener on the port of a server that is down. Up waits
// until the port is free, and the server listens on all its ports again.
func TestUpWaitsForItsPort(t *testing.T) {
	s := StartTest(t, NewDirectory(DirectoryConfig{}), ServerConfig{})
	s.Down()
	other, err := net.Listen("tcp", s.address(1))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { other.Close() })
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	for i := range s.addrs {
		c, err := net.Dial("tcp", s.address(i))
		if err != nil {
			t.Fatalf("port %d: %v", i, err)
		}
		c.Close()
	}
}
