package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"rcpt-milter/testenv"
)

// loadRun is a long run of many clients of Postfix beside full passes without a break. It shows whether memory,
// goroutines or descriptors of the daemon grow, and whether a client ever gets a wrong answer or none.
type loadRun struct {
	*laboratory
	client *http.Client

	mu    sync.Mutex // guards the fields below
	times map[string][]time.Duration
	codes map[string]map[int]int // of the replies to RCPT, by client and reply code
	wrong []string
}

const (
	honest  = "honest"
	hostile = "hostile"
	// hostileShare is the number of honest clients for each hostile one.
	hostileShare = 4
	// guesses is the number of guesses after which the harvest limit applies to a client network.
	guesses = 20
	// sampleEvery is the time between two samples of the daemon.
	sampleEvery = 10 * time.Second
	// changesPerSecond are the changes in the directory during the load.
	changesPerSecond = 10
)

// loadConfiguration is added to the configuration of the benchmark.
const loadConfiguration = `harvest: {unknown: %d, ratio: 0.8, reply: hangup, window: 1h, penalty: 1h}
metrics: inet:127.0.0.1:%d
`

// runLoad prints the figures of a load. Any wrong answer is an error.
func (l *laboratory) runLoad(ctx context.Context) error {
	run := &loadRun{laboratory: l, client: &http.Client{Timeout: sampleEvery}, times: map[string][]time.Duration{},
		codes: map[string]map[int]int{}}
	ctx, cancel := context.WithTimeout(ctx, l.load)
	defer cancel()
	var running sync.WaitGroup
	var passes, changes int
	var passErr, changeErr error
	running.Go(func() { passes, passErr = run.fullPasses(ctx) })
	running.Go(func() { changes, changeErr = run.changes(ctx) })
	for s := range l.sessions {
		running.Go(func() { run.honestClient(ctx, s) })
		if s%hostileShare == 0 {
			running.Go(func() { run.hostileClient(ctx, s) })
		}
	}
	samples, err := run.sample(ctx)
	running.Wait()
	run.print(samples, passes, changes)
	if len(run.wrong) > 0 {
		err = errors.Join(err, fmt.Errorf("%d wrong answers, the first: %s", len(run.wrong), run.wrong[0]))
	}
	return errors.Join(err, passErr, changeErr)
}

// fullPasses requests one full pass after another and returns their number.
func (r *loadRun) fullPasses(ctx context.Context) (n int, err error) {
	for ctx.Err() == nil {
		if _, err := r.command(ctx, "sync", "--full", "--wait"); err != nil {
			return n, ignoreEnd(ctx, err)
		}
		n++
	}
	return n, nil
}

// changes changes objects of the directory.
func (r *loadRun) changes(ctx context.Context) (n int, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return n, nil
		case <-tick.C:
		}
		if err := r.directory.change(changesPerSecond); err != nil {
			return n, err
		}
		n += changesPerSecond
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// honestClient sends messages to a few recipients, one of them mistyped now and then, from a network of its own.
func (r *loadRun) honestClient(ctx context.Context, number int) {
	from := fmt.Sprintf("198.18.%d.1", number)
	for ctx.Err() == nil {
		err := r.session(ctx, from, func(conn *testenv.Session) error {
			for range 1 + rand.N(10) {
				if err := r.mail(conn); err != nil {
					return err
				}
				for range 1 + rand.N(5) {
					to, want := address(rand.N(r.addresses)), 250
					if rand.N(10) == 0 {
						to, want = unknown(rand.N(1000)), 550
					}
					if _, err := r.ask(ctx, conn, honest, to, want); err != nil {
						return err
					}
				}
			}
			return nil
		})
		r.note(ctx, honest, err)
	}
}

// hostileClient guesses addresses from one network after another. It must be limited in each.
func (r *loadRun) hostileClient(ctx context.Context, number int) {
	for network := 0; ctx.Err() == nil; network++ {
		from := fmt.Sprintf("%d.%d.%d.1", 20+network/256, number, network%256)
		for limited := false; !limited && ctx.Err() == nil; {
			err := r.session(ctx, from, func(conn *testenv.Session) error {
				if err := r.mail(conn); err != nil {
					return err
				}
				for n := range 10 * guesses {
					reply, err := r.ask(ctx, conn, hostile, unknown(rand.N(10_000_000)), 550, 421)
					if err != nil {
						return err
					}
					if limited = reply.Code() == 421; limited {
						return errHungUp
					}
					if n > 2*guesses {
						return fmt.Errorf("%d guesses without a limit", n)
					}
				}
				return nil
			})
			if !errors.Is(err, errHungUp) {
				r.note(ctx, hostile, err)
			}
		}
	}
}

// errHungUp ends a session that Postfix ended because of the harvest limit.
var errHungUp = errors.New("limited")

func (r *loadRun) mail(conn *testenv.Session) error {
	for _, line := range []string{"RSET", "MAIL FROM:<sender@elsewhere.example>"} {
		if reply, err := conn.Do(line); err != nil || reply.Code() != 250 {
			return fmt.Errorf("%s: %s: %w", line, reply, err)
		}
	}
	return nil
}

func (r *loadRun) session(ctx context.Context, from string, do func(*testenv.Session) error) error {
	conn, err := testenv.DialSMTP(ctx, "127.0.0.1:"+strconv.Itoa(r.ports[daemonName]))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Open(from); err != nil {
		return err
	}
	if err := do(conn); err != nil {
		return err
	}
	_, err = conn.Do("QUIT")
	return err
}

// ask asks for one recipient, and pauses.
func (r *loadRun) ask(ctx context.Context, conn *testenv.Session, client, to string,
	want ...int) (reply testenv.Reply, err error) {
	began := time.Now()
	if reply, err = conn.Do("RCPT TO:<" + to + ">"); err != nil {
		return reply, err
	}
	took := time.Since(began)
	r.mu.Lock()
	r.times[client] = append(r.times[client], took)
	if r.codes[client] == nil {
		r.codes[client] = map[int]int{}
	}
	r.codes[client][reply.Code()]++
	if !slices.Contains(want, reply.Code()) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s client: %s: %s", client, to, reply))
	}
	r.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(2 * r.pause)):
	}
	return reply, nil
}

// note records a session that failed, unless the run is over or the daemon hung up on a hostile client.
func (r *loadRun) note(ctx context.Context, client string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, client+" client: "+err.Error())
}

// sampleOf are the figures of the daemon at one moment.
type sampleOf struct {
	at, resident, anonymous, goroutines, descriptors, failed, atLimit float64
	decisions                                                         map[string]float64 // by upper bound in seconds
}

// sample takes samples until the context ends.
func (r *loadRun) sample(ctx context.Context) (all []sampleOf, err error) {
	began := time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return all, nil
		case <-tick.C:
		}
		s, err := r.sampleOnce(ctx)
		if err != nil {
			return all, ignoreEnd(ctx, err)
		}
		s.at = time.Since(began).Seconds()
		all = append(all, s)
	}
}

func (r *loadRun) sampleOnce(ctx context.Context) (s sampleOf, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("http://127.0.0.1:%d/metrics", r.metricsPort), nil)
	if err != nil {
		return s, err
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	metrics, err := readMetrics(answer.Body)
	if err != nil {
		return s, err
	}
	for name, to := range map[string]*float64{
		"go_goroutines":    &s.goroutines,
		"process_open_fds": &s.descriptors,
		`rcpt_milter_accept_errors_total{listener="milter"}`:        &s.failed,
		`rcpt_milter_connections_at_limit_total{listener="milter"}`: &s.atLimit,
	} {
		value, found := metrics[name]
		if !found {
			return s, fmt.Errorf("no metric %s", name)
		}
		*to = value
	}
	s.decisions = map[string]float64{}
	for name, value := range metrics {
		if bound, found := strings.CutPrefix(name, `rcpt_milter_decision_seconds_bucket{le="`); found {
			s.decisions[strings.TrimSuffix(bound, `"}`)] = value
		}
	}
	for field, to := range map[string]*float64{"VmRSS": &s.resident, "RssAnon": &s.anonymous} {
		kib, err := memory(r.daemon.Process.Pid, field)
		if err != nil {
			return s, err
		}
		*to = float64(kib) / 1024
	}
	return s, nil
}

// print prints the samples of each tenth of the run, the answers and their times.
func (r *loadRun) print(samples []sampleOf, passes, changes int) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "seconds\tresident MiB\tof it anonymous\tgoroutines\tdescriptors\taccept errors\tat limit")
	shown := min(10, len(samples))
	for i := range shown {
		s := samples[(i+1)*len(samples)/shown-1]
		fmt.Fprintf(out, "%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", s.at, s.resident, s.anonymous, s.goroutines,
			s.descriptors, s.failed, s.atLimit)
	}
	fmt.Fprintf(out, "\nfull passes %d, changed objects %d\n\n", passes, changes)
	fmt.Fprintln(out, "client\tRCPTs\tmedian ms\t99 % ms\t99.9 % ms\tlongest ms\treplies")
	for _, client := range slices.Sorted(maps.Keys(r.times)) {
		times := r.times[client]
		slices.Sort(times)
		at := func(share float64) float64 {
			return float64(times[int(share*float64(len(times)-1))].Microseconds()) / 1000
		}
		var replies strings.Builder
		for _, code := range slices.Sorted(maps.Keys(r.codes[client])) {
			fmt.Fprintf(&replies, "%d: %d  ", code, r.codes[client][code])
		}
		fmt.Fprintf(out, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%s\n", client, len(times), at(0.5), at(0.99), at(0.999), at(1),
			replies.String())
	}
	if len(samples) > 0 {
		decisions := samples[len(samples)-1].decisions
		fmt.Fprintf(out, "\nthe daemon's own time for a RCPT\tshare\n")
		for _, bound := range []string{"0.0001", "0.001", "0.01", "0.05", "0.25", "1"} {
			fmt.Fprintf(out, "up to %s s\t%.4f %%\n", bound, 100*decisions[bound]/decisions["+Inf"])
		}
	}
	out.Flush()
	for _, w := range r.wrong[:min(len(r.wrong), 20)] {
		fmt.Println("wrong:", w)
	}
}

// readMetrics reads the text format of Prometheus without comments.
func readMetrics(from io.Reader) (map[string]float64, error) {
	metrics := map[string]float64{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 && lines.Text()[0] != '#' {
			value, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
			if err != nil {
				return nil, err
			}
			metrics[lines.Text()[:i]] = value
		}
	}
	return metrics, lines.Err()
}
