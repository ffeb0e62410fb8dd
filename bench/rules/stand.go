package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"moongate/bench/load"
	"moongate/bench/origin"
	"moongate/e2e/world"
)

// hostName is the host that is asked for; the gateway has a certificate for it
// after the first connection.
const hostName = "known.ec" + origin.Domain

// workers keep two cores busy with handshakes and leave no queue long enough
// to time out.
const workers = 16

// stand is a gateway with a number of rules.
type stand struct {
	rules   int
	gateway *world.Gateway
	api     *api
	origin  *origin.Origin
	program string // this one, which is the load as well
	watch   map[string]int
}

// sample is what one repetition measured; times are in milliseconds.
type sample struct {
	Load       float64 `json:"load_ms"`
	Single     float64 `json:"multi_ms"` // loading by one action a rule
	Bodies     int     `json:"bodies"`
	Bytes      int     `json:"bytes"` // of the rules' elements
	Commit     float64 `json:"commit_ms"`
	Edit       float64 `json:"edit_ms"`
	Small      float64 `json:"edit_commit_ms"` // the commit after Edit
	Rate       float64 `json:"handshakes_per_s"`
	CPU        float64 `json:"gateway_cpu_us"` // for each handshake
	Resident   float64 `json:"rss_mib"`        // after the handshakes
	Peak       float64 `json:"peak_mib"`       // since the gateway's start
	OthersBusy float64 `json:"others"`         // share of all cores that others had
}

// newStand makes a gateway with keys of its own on the HSM.
func newStand(ctx context.Context, dir string, rules int, name string, hsm *world.HSM, server *origin.Origin) (*stand, error) {
	block, _ := pem.Decode(server.CA)
	if block == nil {
		return nil, errors.New("the origin's CA is no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the origin's CA: %w", err)
	}
	own := filepath.Join(dir, name)
	if err := os.Mkdir(own, 0o700); err != nil {
		return nil, err
	}
	partition, err := hsm.NewPartition(ctx, name)
	if err != nil {
		return nil, err
	}
	link, err := hsm.Register(ctx, name, partition)
	if err != nil {
		return nil, err
	}
	gateway, err := world.StartGateway(ctx, own, link, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{root}, Allowed: []string{server.Addr},
	})
	if err != nil {
		return nil, err
	}
	client, err := newAPI(ctx, gateway)
	if err != nil {
		return nil, errors.Join(err, gateway.Close())
	}
	program, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, gateway.Close())
	}
	return &stand{
		rules: rules, gateway: gateway, api: client, origin: server, program: program,
		watch: map[string]int{gatewayName: gateway.PID(), "hsm": hsm.PID(), "origin": server.PID},
	}, nil
}

// gatewayName is the gateway's in a result's processor times.
const gatewayName = "gateway"

func (s *stand) close() error {
	s.api.close()
	return s.gateway.Close()
}

// configure loads all rules in place of those there are, in two ways, commits,
// changes one of them, and commits again.
func (s *stand) configure(ctx context.Context, generation int) (sample, error) {
	var m sample
	rules := rulebase(s.rules, generation)
	whole, single := batches(rules), batches(actions(rules))
	m.Bodies = len(whole)
	for _, batch := range whole {
		m.Bytes += len(batch)
	}
	steps := []struct {
		took *float64
		do   func() error
	}{
		{&m.Single, func() error { return s.multi(ctx, single) }},
		{&m.Load, func() error { return s.load(ctx, whole) }},
		{&m.Commit, func() error { return s.api.commit(ctx) }},
		{&m.Edit, func() error {
			return s.api.change(ctx, "set", rulePath(s.rules), fmt.Sprintf("<description>changed in generation %d</description>", generation))
		}},
		{&m.Small, func() error { return s.api.commit(ctx) }},
	}
	for _, step := range steps {
		start := time.Now()
		if err := step.do(); err != nil {
			return sample{}, err
		}
		*step.took = milliseconds(time.Since(start))
	}
	return m, nil
}

func (s *stand) load(ctx context.Context, batches []string) error {
	if err := s.api.change(ctx, "edit", rulesPath, "<rules>"+batches[0]+"</rules>"); err != nil {
		return err
	}
	for _, batch := range batches[1:] {
		if err := s.api.change(ctx, "set", rulesPath, batch); err != nil {
			return err
		}
	}
	return nil
}

// multi loads the rules by one action for each, as programs do that keep a list
// of rules, into an empty rulebase.
func (s *stand) multi(ctx context.Context, actions []string) error {
	if err := s.api.change(ctx, "edit", rulesPath, "<rules/>"); err != nil {
		return err
	}
	for _, batch := range actions {
		if err := s.api.change(ctx, "multi-config", "", "<multi-configure-request>"+batch+"</multi-configure-request>"); err != nil {
			return err
		}
	}
	return nil
}

// handshakes adds to a sample what connections show.
func (s *stand) handshakes(ctx context.Context, o options, m *sample) error {
	var roots []byte
	for _, name := range []string{"forward-trust", "forward-trust-ecdsa"} {
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.gateway.Certificates[name].Raw})...)
	}
	result, err := load.Run(ctx, s.program, []string{loadCommand}, load.Job{
		Proxy: s.gateway.Proxy, Target: s.origin.Addr, Roots: roots,
		Names:   origin.Names{Pattern: hostName, Count: 1},
		Workers: workers, Warmup: o.warmup, Measure: o.measure, Watch: s.watch,
	})
	if err != nil {
		return err
	}
	m.Rate, m.OthersBusy = result.Rate(), result.Others
	m.CPU = float64(result.CPU[gatewayName].Microseconds()) / float64(result.Done)
	if m.Resident, err = memory(s.gateway.PID(), "VmRSS"); err != nil {
		return err
	}
	m.Peak, err = memory(s.gateway.PID(), "VmHWM")
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// memory reads one of the figures of /proc/PID/status (proc(5)), in MiB.
func memory(pid int, field string) (float64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != field {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
		if err != nil {
			return 0, fmt.Errorf("reading %s of process %d: %w", field, pid, err)
		}
		return float64(kib) / 1024, nil
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}
