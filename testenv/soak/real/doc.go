// Package real runs a soak on the containers of the harness: two Samba domain controllers, the
// daemon and Postfix.
//
// Two models change the domain all the time, one at each controller. Honest and hostile clients ask
// Postfix about recipients. Faults hit the daemon, its store, the controllers, the paths to them and
// Postfix. An oracle judges each answer. At quiet points the index must equal the models.
//
// # Right answers
//
// An address is valid once both controllers show it as its model does and a pass that began later
// has succeeded. From then on it must not be rejected with 5xx, until an operation takes it away. An
// address is gone once no controller has shown it as a recipient for 30 seconds, which is how long
// confirm may remember a hit, and a later pass has left it out of the index. From then on it must not be
// accepted. Every other address of a model is changing, and any answer is right.
//
// # Seeds
//
// The seed decides the operations of each model, the rules, the faults with their parameters, and
// what each client asks. Only the moments differ between two runs.
//
// # Further parts
//
// A site is a daemon and its Postfix. Each has an oracle of its own, so edges of a fleet can join as
// further sites. A fault is a value with a begin and an end, so a hub or an engine joins as further
// faults.
package real
