package milter

import (
	"io"
	"log/slog"
	"testing"

	gomilter "github.com/emersion/go-milter"
)

// BenchmarkRCPT measures a RCPT with its macros over a unix socket, as Postfix sends it, including its log line
// and the cost of the client.
func BenchmarkRCPT(b *testing.B) {
	for _, recipient := range []string{"user@enforce.test", "nobody@enforce.test"} {
		r := serve(b, "unix", func(cfg *ServerConfig) {
			cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		})
		b.Run(recipient, func(b *testing.B) {
			b.ReportAllocs()
			s := r.session(b)
			for b.Loop() {
				benchRcpt(b, s, recipient)
			}
			s.Close()
		})
		b.Run(recipient+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				s := r.session(b)
				for pb.Next() {
					benchRcpt(b, s, recipient)
				}
				s.Close()
			})
		})
	}
}

func benchRcpt(b *testing.B, s *gomilter.ClientSession, recipient string) {
	err := s.Macros(gomilter.CodeRcpt, "i", "4WJkYz2Qk1z4vRB", "{rcpt_addr}", recipient, "{client_addr}", "192.0.2.1",
		"{client_name}", "mx.client.test", "{mail_addr}", "from@client.test")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Rcpt(recipient, nil); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRcptTo measures the work of a session for a RCPT, without a connection.
func BenchmarkRcptTo(b *testing.B) {
	r := serve(b, "unix", func(cfg *ServerConfig) { cfg.Logger = nil })
	for _, recipient := range []string{"user@enforce.test", "nobody@enforce.test"} {
		b.Run(recipient, func(b *testing.B) {
			b.ReportAllocs()
			s, m := &session{server: r.Server}, &gomilter.Modifier{Macros: map[string]string{}}
			for b.Loop() {
				m.Macros["{rcpt_addr}"] = recipient
				if _, err := s.RcptTo("<x>", m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
