package directory

import "testing"

func TestGrantee(t *testing.T) {
	for name, want := range map[string]string{
		"svc-mail@corp.example": "svc-mail@corp.example", `CORP\svc-mail`: `CORP\svc-mail`,
		"CN=svc-mail,CN=Users,DC=corp,DC=example": "", "CN=a@b,DC=corp,DC=example": "", "": "",
	} {
		t.Run(name, func(t *testing.T) {
			if got := Grantee(name); got != want {
				t.Errorf("Grantee(%q) = %q, want %q", name, got, want)
			}
		})
	}
}
