package daemon

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/adminshell"
	"moongate/internal/syslog"
)

// TestCollectorState: `status` says whether the audit log arrives anywhere.
func TestCollectorState(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		status  syslog.Status
		settled int64
		want    string
	}{
		{syslog.Status{}, -1, "NOT CONNECTED; nothing has arrived since the start"},
		{syslog.Status{Err: errors.New("refused")}, -1, "NOT CONNECTED: refused; nothing has arrived since the start"},
		{syslog.Status{Since: since, Err: errors.New("refused")}, 7, "NOT CONNECTED since 2026-01-02T15:04:05Z: refused; record 7 has arrived"},
		{syslog.Status{Connected: true, Since: since, Err: errors.New("of before")}, 7, "connected since 2026-01-02T15:04:05Z; record 7 has arrived"},
	} {
		if got := collectorState(test.status, test.settled); got != test.want {
			t.Errorf("%+v, %d: %q, want %q", test.status, test.settled, got, test.want)
		}
	}

	dir := newDir(t)
	_, err := Init(initOptions(dir, "127.0.0.1"))
	must(t, err)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, nobody.Close())
	opts := options(dir)
	opts.Collector = Collector{Address: nobody.Addr().String(), CA: In(dir).Certificate()}
	_, stop := run(t, opts)
	shell := &answers{}
	admin, err := adminshell.DialLocal(In(dir).Socket(), shell)
	must(t, err)
	defer admin.Close()
	for !strings.Contains(shell.out.String(), "connection refused") { // why it is away
		shell.out.Reset()
		result, err := admin.Run(adminshell.Request{Words: []string{"status"}})
		if result != 0 || err != nil {
			t.Fatalf("status: %d, %v", result, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(shell.out.String(), "NOT CONNECTED since ") {
		t.Errorf("it does not say since when:\n%s", &shell.out)
	}
	must(t, stop())
}
