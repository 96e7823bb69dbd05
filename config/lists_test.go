package config

import "testing"

// doubtful: in stands before the smallest file.
var doubtful = []string{
	`accept: ["@example.net"]`,
	`accept: [a@example.com, A@a.example.com]`,
	`refuse: [x@example.net]`,
	"accept: [x@example.com, y@example.com]\nrefuse: [Y@example.com]",
	`refuse: [Abuse@example.com]`,
	"recipient_delimiter: +\nrefuse: [abuse+x@example.com]",
	`accept: ["smtp:x@example.com"]`,
	`accept: [a@example.com, "*@example.com"]`,
	`refuse: ["mailto:x@example.com"]`,
	`refuse: ["a@example.com;b@example.com"]`,
	`canaries: {accept: ["SMTP:x@example.com"]}`,
	`canaries: {refuse: ["/^x@example.com$/"]}`,
}

// TestDoubtful: what the order of the lists settles is said, and is no error.
func TestDoubtful(t *testing.T) {
	g := openGolden(t, "warnings-lists.txt")
	for _, in := range doubtful {
		g.run(t, in, func(t *testing.T) string {
			got, err := Parse("config.yaml", []byte(in+"\n"+smallest))
			if err != nil || len(got.Warnings()) != 1 {
				t.Fatalf("Parse: %v, expected one warning", err)
			}
			return got.Warnings()[0].Error()
		})
	}
	got, err := Parse("config.yaml", []byte("accept: [a@example.com]\n"+smallest))
	if err != nil || len(got.Warnings()) > 0 {
		t.Errorf("an entry that has an effect: %v, warnings %v", err, got.Warnings())
	}
}
