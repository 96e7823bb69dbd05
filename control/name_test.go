package control

import "testing"

// TestObjectsWithoutNames: at an edge objects have no distinguished names.
func TestObjectsWithoutNames(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"named", ObjectName("CN=Ann", "01"), "CN=Ann"},
		{"not named", ObjectName("", "01"), "object 01"},
		{"value of a named object", UnparsedValue{Directory: "corp", DN: "CN=Ann", Attribute: "mail", Value: "x",
			Reason: "no @"}.Text(), "CN=Ann: mail x: no @"},
		{"value of an object without a name", UnparsedValue{Directory: "corp", Attribute: "mail", Value: "x",
			Reason: "no @"}.Text(), "an object of directory corp: mail x: no @"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("%q, want %q", c.got, c.want)
			}
		})
	}
}
