package postfix

import (
	"slices"
	"strings"
	"testing"
)

// TestProbing: the fix removes reject_unverified_recipient, and changes nothing about the other restrictions.
func TestProbing(t *testing.T) {
	const recipients = "smtpd_recipient_restrictions"
	for _, c := range []struct {
		name  string
		plant func(*scene)
		text  string // a part of the finding; empty means none
		fix   []string
	}{
		{"the last one", func(s *scene) { s.set(recipients, "reject_unauth_destination, reject_unverified_recipient") },
			"smtp/inet also verifies recipients by address probes (reject_unverified_recipient in " + recipients + ")",
			[]string{"postconf -e 'smtpd_recipient_restrictions = reject_unauth_destination'"}},
		{"the only one", func(s *scene) { s.set(recipients, "reject_unverified_recipient") }, recipients,
			[]string{"postconf -e 'smtpd_recipient_restrictions ='"}},
		{"among others with arguments", func(s *scene) {
			s.set(recipients, "reject_rbl_client bl.example reject_unverified_recipient,check_policy_service "+
				"{ inet:localhost:1, timeout=5s }")
		}, recipients, []string{"postconf -e 'smtpd_recipient_restrictions = reject_rbl_client bl.example," +
			"check_policy_service { inet:localhost:1, timeout=5s }'"}},
		{"in another case", func(s *scene) { s.set(recipients, "Reject_Unverified_Recipient, permit") }, recipients,
			[]string{"postconf -e 'smtpd_recipient_restrictions = permit'"}},
		{"by the name of a parameter", func(s *scene) {
			s.set(recipients, "reject_unauth_destination $verify")
			s.set("verify", "reject_unverified_recipient")
		}, recipients, []string{"postconf -e 'smtpd_recipient_restrictions = reject_unauth_destination'"}},
		{"beside the name of a parameter", func(s *scene) {
			s.set(recipients, "$first, reject_unverified_recipient")
			s.set("first", "permit_mynetworks")
		}, recipients, []string{"postconf -e 'smtpd_recipient_restrictions = $first'"}},

		{"a warning only", func(s *scene) {
			s.set(recipients, "permit_mynetworks, warn_if_reject reject_unverified_recipient, reject_rbl_client "+
				"bl.example")
		}, "", nil},
		{"a warning only, in another case", func(s *scene) {
			s.set(recipients, "WARN_IF_REJECT,Reject_Unverified_Recipient reject_unauth_destination")
		}, "", nil},
		{"a warning about another one", func(s *scene) {
			s.set(recipients, "warn_if_reject reject_rbl_client bl.example, reject_unverified_recipient, permit")
		}, recipients,
			[]string{"postconf -e 'smtpd_recipient_restrictions = warn_if_reject reject_rbl_client bl.example, " +
				"permit'"}},
		{"a warning, then a rejection", func(s *scene) {
			s.set(recipients, "warn_if_reject reject_unverified_recipient, reject_unverified_recipient, permit")
		}, recipients,
			[]string{"postconf -e 'smtpd_recipient_restrictions = warn_if_reject reject_unverified_recipient, " +
				"permit'"}},

		{"in master.cf", func(s *scene) {
			s.set(recipients, "permit_sasl_authenticated, reject")
			s.override("smtp/inet", recipients, "reject_unauth_destination,reject_unverified_recipient,permit")
		}, recipients, []string{"postconf -P smtp/inet/smtpd_recipient_restrictions=reject_unauth_destination,permit"}},
		{"in master.cf, with blanks", func(s *scene) {
			s.override("smtp/inet", recipients, "reject_unverified_recipient, check_policy_service { inet:a:1, "+
				"timeout=5s }")
		}, recipients, []string{"in master.cf: remove reject_unverified_recipient from smtpd_recipient_restrictions " +
			"of smtp/inet"}},
		{"in master.cf, by the name of a parameter", func(s *scene) {
			s.set("mx_restrictions", "reject_unauth_destination, reject_unverified_recipient")
			s.override("smtp/inet", recipients, "$mx_restrictions")
		}, recipients, []string{"postconf -P smtp/inet/smtpd_recipient_restrictions=reject_unauth_destination"}},
		{"on submission only", func(s *scene) {
			s.Services = append(s.Services, smtpd("submission", "y", map[string]string{"smtpd_milters": "",
				recipients: "reject_unverified_recipient,permit_sasl_authenticated,reject"}))
		}, "", nil},
		{"of two listeners", func(s *scene) {
			s.set(recipients, "reject_unverified_recipient, permit")
			s.Services = append(s.Services,
				smtpd("192.0.2.1:smtp", "y", nil),
				smtpd("192.0.2.2:smtp", "y", map[string]string{recipients: "reject_unverified_recipient"}))
		}, "smtp/inet, 192.0.2.1:smtp/inet and 192.0.2.2:smtp/inet also verif", []string{
			"postconf -e 'smtpd_recipient_restrictions = permit'",
			"postconf -P 192.0.2.2:smtp/inet/smtpd_recipient_restrictions="}},

		{"for clients", func(s *scene) { s.set("smtpd_client_restrictions", "reject_unverified_recipient") },
			"smtpd_client_restrictions", []string{"postconf -e 'smtpd_client_restrictions ='"}},
		{"for HELO", func(s *scene) { s.set("smtpd_helo_restrictions", "reject_unverified_recipient") },
			"smtpd_helo_restrictions", []string{"postconf -e 'smtpd_helo_restrictions ='"}},
		{"for senders", func(s *scene) {
			s.set("smtpd_sender_restrictions", "permit_mynetworks reject_unverified_recipient")
		}, "smtpd_sender_restrictions", []string{"postconf -e 'smtpd_sender_restrictions = permit_mynetworks'"}},
		{"for DATA", func(s *scene) { s.set("smtpd_data_restrictions", "reject_unverified_recipient") },
			"smtpd_data_restrictions", []string{"postconf -e 'smtpd_data_restrictions ='"}},
		{"for relaying, and in a list that no service uses", func(s *scene) {
			s.set("smtpd_relay_restrictions", "reject_unauth_destination, reject_unverified_recipient")
			s.set("smtpd_other_restrictions", "reject_unverified_recipient")
		}, "(reject_unverified_recipient in smtpd_relay_restrictions)",
			[]string{"postconf -e 'smtpd_relay_restrictions = reject_unauth_destination'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			c.plant(s)
			all := s.examine()
			if c.text == "" {
				if len(all) != 0 {
					t.Fatalf("found %+v", all)
				}
				return
			}
			if len(all) != 1 || all[0].Name != "probing" || !strings.Contains(all[0].What, c.text) {
				t.Fatalf("found %+v, want probing with %q", all, c.text)
			}
			if !slices.Equal(all[0].Fix, c.fix) {
				t.Errorf("fixed by %q, want %q", all[0].Fix, c.fix)
			}
		})
	}
}
