package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/mgmt"
)

// Dashboard: how the gateway does, from its own figures.

const dashboardPage = "/dashboard"

func dashboardRoutes() []route {
	return []route{
		{"GET " + dashboardPage, func(v *visit) error {
			d, err := v.dashboardData()
			if err != nil {
				return err
			}
			return v.page(Page{Title: "Dashboard", Path: dashboardPage}, dashboardView(d))
		}},
		{"GET " + dashboardPage + "/live", func(v *visit) error {
			d, err := v.dashboardData()
			if err != nil {
				return err
			}
			return v.part(0, dashboardLive(d))
		}},
	}
}

type dashboardData struct {
	Info       mgmt.Info
	HSM        hsmlink.Status
	Bytes      series
	Handshakes series
	Signatures series
	Total      sample
	Causes     []cause
	Expiring   []mgmt.CertificateState
	Active     int
	Decrypted  int
	Empty      bool // nothing has passed yet
	Proxy      string
}

// cause is a reason for which flows failed, and how often lately.
type cause struct {
	Text  string
	Count int
}

// Failures that are looked at for the top causes, and causes shown.
const (
	failuresLooked = 500
	causesShown    = 5
)

func (v *visit) dashboardData() (d dashboardData, err error) {
	if d.Info, err = v.m().SystemInfo(v.ctx(), v.who()); err != nil {
		return d, err
	}
	if d.HSM, err = v.m().HSMStatus(v.ctx(), v.who()); err != nil {
		return d, err
	}
	info, err := v.m().SessionInfo(v.ctx(), v.who())
	if err != nil {
		return d, err
	}
	d.Active, d.Decrypted = info.Active, info.Decrypted
	d.Bytes, d.Handshakes, d.Signatures = v.h.figures.rates()
	// Not the last sample: what has just passed is to be seen at once.
	if d.Total, err = v.h.count(v.ctx()); err != nil {
		return d, err
	}
	d.Empty = d.Total.handshakes == 0 && d.Total.decrypted+d.Total.relayed+d.Total.blocked == 0
	failures, err := v.m().Logs(v.ctx(), v.who(), logstore.Query{Log: logstore.Decryption, Filter: "( error neq '' ) and ( receive_time in last-24-hrs )", Limit: failuresLooked})
	if err != nil {
		return d, err
	}
	count := map[string]int{}
	for i := range failures {
		count[failures[i].Get("err_index")+": "+failures[i].Get("error")]++
	}
	for text, n := range count {
		d.Causes = append(d.Causes, cause{text, n})
	}
	slices.SortFunc(d.Causes, func(a, b cause) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Text, b.Text)
	})
	d.Causes = d.Causes[:min(len(d.Causes), causesShown)]
	if v.live() {
		return d, nil // what follows is not in the live part
	}
	certificates, err := v.m().CertificateStates(v.ctx(), v.who())
	if err != nil {
		return d, err
	}
	for _, c := range certificates {
		if !c.Pending && !c.Revoked {
			d.Expiring = append(d.Expiring, c)
		}
	}
	slices.SortFunc(d.Expiring, func(a, b mgmt.CertificateState) int { return a.NotAfter.Compare(b.NotAfter) })
	d.Expiring = d.Expiring[:min(len(d.Expiring), 5)]
	if s := v.m().Snapshot(); s != nil && len(s.Forward) > 0 {
		d.Proxy = s.Forward[0].Listen.String()
	}
	return d, nil
}

// perSecond is a rate for people.
func perSecond(values series, unit string) string {
	if len(values) == 0 {
		return "–"
	}
	last := values[len(values)-1]
	switch {
	case unit != "B":
		return fmt.Sprintf("%.1f/s", last)
	case last >= 1e6:
		return fmt.Sprintf("%.1f MB/s", last/1e6)
	case last >= 1e3:
		return fmt.Sprintf("%.1f kB/s", last/1e3)
	}
	return fmt.Sprintf("%.0f B/s", last)
}

// Size of a chart, in units of its view box.
const (
	chartWidth  = 300
	chartHeight = 64
)

// points are a series as a chart's line, and the area below it.
func points(values series) (line, area string) {
	if len(values) < 2 {
		return "", ""
	}
	top := max(slices.Max(values), 1)
	var b strings.Builder
	for i, value := range values {
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(i)*chartWidth/float64(len(values)-1), chartHeight-2-value/top*(chartHeight-8))
	}
	line = strings.TrimSpace(b.String())
	return line, fmt.Sprintf("0,%d %s %d,%d", chartHeight, line, chartWidth, chartHeight)
}

// latency is how long a call of the HSM takes, on average since the start.
func latency(s sample) string {
	if s.signatures == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f ms", float64(s.waitedMs)/float64(s.signatures))
}

// share is a part of a whole in percent.
func share(part uint64, s sample) string {
	whole := s.decrypted + s.relayed + s.blocked
	if whole == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", 100*float64(part)/float64(whole))
}

// age is how long something has lasted, for people.
func age(from, now time.Time) string {
	switch d := now.Sub(from); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d/day))
	}
}
