package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/settings"
)

func ports(ctx context.Context, p *patient) []Finding {
	var found []Finding
	for _, l := range []struct{ name, address string }{
		{"ntls.listen", p.s.NTLS.Listen}, {"ssh.listen", p.s.SSH.Listen}, {"metrics.listen", p.s.Metrics.Listen},
	} {
		if l.address != settings.Off {
			found = append(found, port(ctx, l.name, l.address, p.running))
		}
	}
	return found
}

// port asks whether an address can be listened on or, while the HSM runs,
// whether it answers there.
func port(ctx context.Context, name, address string, running bool) Finding {
	if running {
		c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return warn("the HSM may have been started with other addresses; `ntls show` and `service list` tell", "%s is %s, and nothing answers there", name, address)
		}
		c.Close()
		return ok("%s answers", address)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failure("stop the other program (`ss -ltnp`), or set "+name, "%s is %s, which another program uses", name, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure("set "+name+" to an address of this machine (`ip addr`)", "%s is %s, which is not this machine's", name, address)
	case errors.Is(err, syscall.EACCES):
		return failure("choose a port above 1023, or allow it (AmbientCapabilities=CAP_NET_BIND_SERVICE)", "%s is %s, which this user may not open", name, address)
	case err != nil:
		return failure("set "+name, "%s is %s: %v", name, address, err)
	}
	l.Close()
	return ok("%s is free", address)
}

// spareFiles are what a process has open besides its clients.
const spareFiles = 128

func process(_ context.Context, p *patient) []Finding {
	var found []Finding
	if os.Geteuid() == 0 && !p.running {
		found = append(found, warn("run `serve` as a user of its own", "this is root"))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		if need := uint64(p.s.Limits.Connections + spareFiles); limit.Max < need {
			found = append(found, warn(fmt.Sprintf("raise it (LimitNOFILE=%d), or lower limits.connections", need),
				"a process may have %d files open, and limits.connections is %d", limit.Max, p.s.Limits.Connections))
		}
	}
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) == "0" {
		found = append(found, warn("sysctl kernel.yama.ptrace_scope=1", "processes of one user may look into each other; the HSM forbids it for itself"))
	}
	if len(found) == 0 {
		found = one(ok("limits suffice"))
	}
	return found
}

func memory(context.Context, *patient) []Finding {
	swaps, err := os.ReadFile("/proc/swaps")
	if err == nil && bytes.Count(bytes.TrimSpace(swaps), []byte("\n")) > 0 {
		return one(warn("turn swap off, encrypt it, or set MemorySwapMax=0 for the service", "swap is on: keys in memory may reach a disk"))
	}
	return one(ok("no swap"))
}

func clock(context.Context, *patient) []Finding {
	if year := time.Now().Year(); year < 2025 {
		return one(failure("set the clock", "it is %d here; keys' dates and the audit log's times would be wrong", year))
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		return one(warn("run a time service (systemd-timesyncd, chrony)", "the clock is not synchronised; keys' dates and the audit log's times go by it"))
	}
	return one(ok("%s", time.Now().UTC().Format(time.RFC3339)))
}

func cryptography(context.Context, *patient) []Finding {
	status := mech.Policy{}.Status()
	module := fmt.Sprintf("Go Cryptographic Module %s (%s), FIPS 140-3 mode %v (software, not validated hardware)", status.ModuleVersion, status.Module(), status.ModuleEnabled)
	switch {
	case runtime.GOARCH == "amd64" && !(cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ), runtime.GOARCH == "arm64" && !cpu.ARM64.HasAES:
		return one(warn("use another machine, or another CPU model in the hypervisor", "this CPU has no AES instructions: slower, and AES is not constant-time; %s", module))
	}
	return one(ok("%s", module))
}

func collector(ctx context.Context, p *patient) []Finding {
	s := p.s.Syslog
	if s.Address == "" {
		return one(warn("set syslog.address, so that the audit log is also somewhere that this machine cannot rewrite", "the audit log is not forwarded"))
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return one(failure("set syslog.ca", "%v", err))
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: s.ServerName, MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return one(failure("set syslog.ca to a file of PEM certificates", "%s holds no certificate", s.CA))
	}
	if s.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return one(failure("set syslog.certificate and syslog.key", "%v", err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return one(failure("look at the collector, its certificate and the network between", "%s: %v", s.Address, err))
	}
	c.Close()
	return one(ok("%s answers", s.Address))
}
