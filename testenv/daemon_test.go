package testenv

import (
	"fmt"
	"testing"
)

func TestOverlay(t *testing.T) {
	const stock = "# What this is.\nlisten: unix:/a\nstore: {dir: /b}\ndomains:\n  a.example: enforce\n\n  " +
		"b.example: pass\n# About grace.\nremoval_grace: 0s\n"
	tests := []struct{ more, want string }{
		{"", stock},
		{"refuse: [x@a.example]\n", stock + "refuse: [x@a.example]\n"},
		{
			"domains: {c.example: enforce}\n",
			"# What this is.\nlisten: unix:/a\nstore: {dir: /b}\nremoval_grace: 0s\ndomains: {c.example: enforce}\n",
		},
		{
			"# Both.\nremoval_grace: 1h\naccept:\n  - y@a.example\nlisten: inet:127.0.0.1:1\n",
			"# What this is.\nstore: {dir: /b}\ndomains:\n  a.example: enforce\n\n  b.example: pass\n# About grace.\n" +
				"# Both.\nremoval_grace: 1h\naccept:\n  - y@a.example\nlisten: inet:127.0.0.1:1\n",
		},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%q", test.more), func(t *testing.T) {
			if got := Overlay(test.more)(stock); got != test.want {
				t.Errorf("Overlay(%q) = %q, want %q", test.more, got, test.want)
			}
		})
	}
}
