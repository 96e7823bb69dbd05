// Command bench compares rcpt-milter with other ways to check recipients: tables of Postfix, a live
// directory, and milters in C. Everything runs on this machine in one interleaved run, so only the
// ratios within a run are meaningful. Do not compare figures of two machines.
//
// With -load it puts load on the daemon instead: many honest and hostile clients of Postfix beside full passes.
//
// It needs Docker for Postfix and Samba. See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the size of a run.
type options struct {
	addresses int           // in the index and in the tables
	rounds    int           // of all candidates in turn
	length    time.Duration // of one candidate in one round
	samba     bool          // compare with live LDAP tables, against Samba
	json      string        // file for the result; empty means none
	compare   string        // file with an earlier result; empty means none
	load      time.Duration // length of a run under load, in place of the comparison; 0 means none
	sessions  int           // honest clients of that run
	pause     time.Duration // mean pause of a client between two recipients
}

// minAddresses leaves room for recipients whose probes are not cached.
const minAddresses = 5000

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("short", false, "about two minutes: 20,000 addresses, no Samba, fewer rounds")
	flags.IntVar(&o.addresses, "addresses", 1_000_000, "addresses in the index and in the tables")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of all candidates in turn")
	flags.DurationVar(&o.length, "length", 3*time.Second, "length of one candidate in one round")
	flags.BoolVar(&o.samba, "samba", true, "compare with live LDAP tables against Samba")
	flags.StringVar(&o.json, "json", "", "write the result to this file")
	flags.StringVar(&o.compare, "compare", "", "print the ratios beside those of an earlier result")
	flags.DurationVar(&o.load, "load", 0, "instead, put load on the daemon for so long, beside full passes")
	flags.IntVar(&o.sessions, "sessions", 200, "with -load: honest clients; a hostile one comes with each four")
	flags.DurationVar(&o.pause, "pause", 200*time.Millisecond, "with -load: mean pause between recipients of a client")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *short {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["addresses"] {
			o.addresses = 20_000
		}
		if !given["rounds"] {
			o.rounds = 3
		}
		if !given["length"] {
			o.length = time.Second
		}
		o.samba = o.samba && given["samba"]
	}
	if flags.NArg() > 0 || o.addresses < minAddresses || o.rounds < 1 || o.length < 100*time.Millisecond {
		return o, errors.New("bench takes no arguments, at least 5,000 addresses, a round and 100ms")
	}
	if o.load < 0 || o.sessions < 1 || o.sessions > 250 || o.pause < time.Millisecond {
		return o, errors.New("a load takes 1 to 250 sessions, and a pause of 1ms or more")
	}
	o.samba = o.samba && o.load == 0
	return o, nil
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == directoryMode {
		if err := serveDirectory(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: simulated directory:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything, prints the table and writes the result.
func run(ctx context.Context, o options) (err error) {
	// The daemon's socket needs a short path.
	dir, err := os.MkdirTemp("/tmp", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // smtpd is not root
		return err
	}
	l := &laboratory{options: o, dir: dir, result: newResult(o)}
	defer func() { err = errors.Join(err, l.close()) }()
	type step struct {
		name string
		do   func(context.Context) error
	}
	steps := []step{
		{"building images and the daemon", l.build},
		{fmt.Sprintf("full pass of %d addresses from the simulated directory", o.addresses), l.fillIndex},
		{"incremental passes", l.incrementalPasses},
		{"milter protocol without Postfix", l.rawRounds},
		{"Postfix", l.postfixRounds},
		{"passes and changes of Samba", l.sambaPasses},
	}
	if o.load > 0 {
		steps = append(steps[:2], step{fmt.Sprintf("%d clients for %s", o.sessions, o.load), l.runLoad})
	}
	for _, step := range steps {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s ...\n", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", step.name, time.Since(began).Seconds())
	}
	if o.load > 0 {
		return nil
	}
	if err := l.result.print(os.Stdout, o.compare); err != nil {
		return err
	}
	if o.json != "" {
		return l.result.write(o.json)
	}
	return nil
}

// path returns the path of a file of this run. The same directory is /bench in the container.
func (l *laboratory) path(name string) string { return filepath.Join(l.dir, name) }
