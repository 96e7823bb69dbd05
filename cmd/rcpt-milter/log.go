package main

import (
	"io"
	"log/slog"

	"rcpt-milter/config"
)

// newLogger makes the daemon's logger. The configuration has been checked, so that
// every level it can name is one of slog's.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
