package real

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/soak/model"
)

// The file system of the store is in memory and small. A container keeps it while the daemon is down,
// fills it, and makes it read-only.
const (
	diskService = "soak-disk"
	diskVolume  = "soak-store"
	diskSize    = 512 << 20
	minFree     = 64 << 20
)

// settings are those of the daemon that a reload changes, besides the rules of the models.
type settings struct {
	report  bool // mode report: unknown recipients are accepted
	hangup  bool // reply of the harvest limit
	unknown int  // harvest limit
}

func drawSettings(rnd *rand.Rand) settings {
	return settings{report: rnd.IntN(6) == 0, hangup: rnd.IntN(2) == 0, unknown: 20 + rnd.IntN(60)}
}

// setUp starts dc2, furnishes the domain, and makes the paths.
func (s *Soak) setUp(ctx context.Context) error {
	s.alone = !s.h.HasSecond(ctx)
	s.report.say("set-up: dc2 starts")
	if err := s.h.StartSecond(ctx); err != nil {
		return err
	}
	gateway, err := s.h.Gateway(ctx)
	if err != nil {
		return err
	}
	for _, service := range []string{testenv.DC, testenv.DC2} {
		c := &controller{service: service}
		if c.proxy, err = testenv.NewProxyOn(gateway, ""); err != nil {
			return err
		}
		s.controllers = append(s.controllers, c)
	}
	s.newWorlds()
	for _, c := range s.controllers {
		if err := s.connect(ctx, c); err != nil {
			return err
		}
	}
	for _, site := range s.sites {
		if err := s.locate(ctx, site); err != nil {
			return err
		}
	}
	if err := s.replicate(ctx); err != nil {
		return err
	}
	s.report.say("set-up: objects are created")
	for _, w := range s.worlds {
		before := w.look()
		err := errors.Join(w.home.writer.DeleteTree(w.model.Root), // of a run that was interrupted
			w.model.Furnish(w.home.writer, anchors))
		if err != nil {
			return err
		}
		s.record(w, before, "furnished")
	}
	s.settings = settings{unknown: 40, hangup: true}
	return s.replicate(ctx)
}

// replicate replicates in both directions.
func (s *Soak) replicate(ctx context.Context) error {
	return errors.Join(s.h.Replicate(ctx, testenv.DC, testenv.DC2), s.h.Replicate(ctx, testenv.DC2, testenv.DC))
}

// locate finds the Postfix of a site.
func (s *Soak) locate(ctx context.Context, site *site) error {
	if err := s.h.AwaitHealthy(ctx, site.mx); err != nil {
		return err
	}
	address, err := s.h.InternalAddress(ctx, site.mx)
	if err == nil {
		site.address.Store(net.JoinHostPort(address, fmt.Sprint(testenv.PortSMTP)))
	}
	return err
}

// override is the Compose text of the daemon with the paths and the file system of the soak.
func override(gateway, image string) string {
	hosts := ""
	for _, service := range []string{testenv.DC, testenv.DC2} {
		hosts += fmt.Sprintf("      - \"%s:%s\"\n", testenv.HostOf(service), gateway)
	}
	return fmt.Sprintf(`services:
  %[1]s:
    extra_hosts:
%[2]s    volumes: ["%[3]s:%[4]s"]
  %[5]s:
    image: %[6]s
    user: root
    command: [sleep, infinity]
    network_mode: none
    cap_add: [SYS_ADMIN]
    security_opt: ["apparmor:unconfined"]
    volumes: ["%[3]s:/store"]
    stop_grace_period: 1s
volumes:
  %[3]s:
    driver: local
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=%[7]d,uid=310,gid=310,mode=0750"}
`, testenv.Milter, hosts, diskVolume, testenv.StoreDir, diskService, image, diskSize)
}

// startDaemon creates the daemon anew, with the paths and an empty store, and waits until it is fresh.
func (s *Soak) startDaemon(ctx context.Context) error {
	s.report.say("set-up: the daemon starts")
	gateway, err := s.h.Gateway(ctx)
	if err != nil {
		return err
	}
	image, err := s.h.ImageOf(ctx, testenv.Milter)
	if err != nil {
		return err
	}
	if err := s.h.Override(ctx, override(gateway, image), testenv.Milter, diskService); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	if err := s.h.Start(ctx, testenv.Milter); err != nil {
		return err
	}
	_, err = s.h.AwaitFresh(ctx)
	return err
}

// clean restores the harness, whatever state it is in.
func (s *Soak) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), setUpPatience)
	defer cancel()
	var errs []error
	for _, c := range s.controllers {
		c.proxy.Close()
	}
	for _, c := range s.controllers {
		errs = append(errs, s.h.EnsureRunning(ctx, c.service), s.h.Throttle(ctx, c.service, 0))
	}
	for i, c := range s.controllers {
		domain, err := s.h.AdministratorOf(ctx, c.service)
		if err == nil && i < len(s.worlds) {
			err = domain.DeleteTree(s.worlds[i].model.Root)
			domain.Close()
		}
		errs = append(errs, err)
	}
	errs = append(errs, s.h.EnsureRunning(ctx, testenv.MX),
		s.h.RemoveOverride(ctx, testenv.Milter, []string{diskService}, []string{diskVolume}))
	if s.alone && len(s.controllers) > 0 {
		errs = append(errs, s.h.ForgetSecond(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	return nil
}

// configure writes the configuration of the daemon. The worlds must be locked, or not live yet.
func (s *Soak) configure(ctx context.Context) error {
	text, err := s.configuration()
	if err != nil {
		return err
	}
	return s.h.Configure(ctx, func(string) string { return text })
}

// configuration returns the configuration of the daemon by the rules and settings of now.
func (s *Soak) configuration() (string, error) {
	text, err := s.h.DefaultConfig()
	if err != nil {
		return "", err
	}
	var urls, bases []string
	for _, c := range slices.Backward(s.controllers) { // the last one is preferred
		_, port, err := net.SplitHostPort(c.proxy.Addr())
		if err != nil {
			return "", err
		}
		urls = append(urls, fmt.Sprintf("ldaps://%s:%s", testenv.HostOf(c.service), port))
	}
	for _, w := range s.worlds {
		bases = append(bases, w.model.Rules.Bases...)
	}
	rules := s.worlds[0].model.Rules
	rules.Bases = bases
	more := fmt.Sprintf("    replication_lag: %s\n", s.options.Lag)
	edits := append(rules.Edits(more),
		testenv.Replace("[ldaps://dc1.corp.example]", "["+strings.Join(urls, ", ")+"]"),
		testenv.Overlay(fmt.Sprintf("store: {dir: %s, min_free: %dMiB}\n", testenv.StoreDir, minFree>>20)),
		testenv.Overlay(fmt.Sprintf("harvest: {unknown: %d, window: 2m, penalty: 1m, reply: %s}\n", s.settings.unknown,
			map[bool]string{true: "hangup", false: "tempfail"}[s.settings.hangup])))
	if s.settings.report {
		edits = append(edits, testenv.Replace(": enforce\n", ": report\n"))
	}
	for _, edit := range edits {
		text = edit(text)
	}
	s.rulesText.Store(fmt.Sprintf("%+v, %+v", rules, s.settings))
	return text, nil
}

// reload draws other rules and settings, and makes the running daemon read them.
func (s *Soak) reload(ctx context.Context, rules model.Rules, bases [][]string, next settings) error {
	defer s.lock()()
	if next.report {
		for _, site := range s.sites {
			site.oracle.Lenient(true, time.Now())
		}
	}
	for i, w := range s.worlds {
		before := w.look()
		w.model.Rules = rules
		w.model.Rules.Bases = bases[i]
		s.record(w, before, fmt.Sprintf("reload with %+v", w.model.Rules))
	}
	s.settings = next
	if err := s.configure(ctx); err != nil {
		return err
	}
	if err := s.runReload(ctx, 0); err != nil {
		return err
	}
	if !next.report {
		for _, site := range s.sites {
			site.oracle.Lenient(false, time.Now())
		}
	}
	// What a reload has changed is not touched any more from here on.
	for _, w := range s.worlds {
		for a := range w.touched {
			w.touched[a] = time.Now()
		}
	}
	return nil
}

// runReload makes the daemon read its configuration again.
func (s *Soak) runReload(ctx context.Context, status int) error {
	out, err := s.h.RunMilter(ctx, "reload")
	if err == nil && out.Status != status {
		err = fmt.Errorf("reload: exit status %d, want %d: %s", out.Status, status,
			strings.TrimSpace(out.Stderr+out.Stdout))
	}
	return err
}
