// Package socketmap answers Postfix's socketmap protocol (socketmap_table(5)) from the policy.
//
// A [Server] has one map, [Map], for relay_recipient_maps and "postmap -q". Each request is one
// decision of [policy.Policy.Decide]:
//
//	continue    OK and the verdict
//	5xx         NOTFOUND
//	4xx         TEMP and the reason
//
// Requests name neither the client nor the sender. Internal-only recipients are therefore found, no client is
// exempt, and nothing is charged to a harvest limit. Mode report finds every recipient.
//
// The value of a recipient is its verdict, which is not an action of access(5). If the map is used as an access
// table by mistake, Postfix defers mail with a server configuration error, and permits nothing.
package socketmap
