package ha

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector shows a Group's members when they are asked for.
type collector struct{ g *Group }

var (
	memberLabels = []string{"group", "member"}
	stateDesc    = prometheus.NewDesc("moongate_ha_member_state", "1 for the state that a member of the HA group is in, 0 for the others.", append(memberLabels, "state"), nil)
	sinceDesc    = prometheus.NewDesc("moongate_ha_member_state_since_seconds", "When the member's state last changed, in Unix time.", memberLabels, nil)
	workDesc     = prometheus.NewDesc("moongate_ha_member_outstanding", "Calls that wait for the member's answer.", memberLabels, nil)
	failDesc     = prometheus.NewDesc("moongate_ha_failovers_total", "Calls that went on elsewhere after they failed at the member.", memberLabels, nil)
	hedgeDesc    = prometheus.NewDesc("moongate_ha_hedges_total", "Calls that were asked elsewhere too since the member was slow.", memberLabels, nil)
	lagDesc      = prometheus.NewDesc("moongate_ha_member_behind_objects", "Objects and tombstones of which the member holds something else than the others; -1 while that is not known.", memberLabels, nil)
	pendingDesc  = prometheus.NewDesc("moongate_ha_member_pending_objects", "Objects of which a change through this client is known not to have reached the member.", memberLabels, nil)
	equalDesc    = prometheus.NewDesc("moongate_ha_member_digest_equal", "Whether the member's contents were the others' when last compared.", memberLabels, nil)
	objectsDesc  = prometheus.NewDesc("moongate_ha_member_objects", "Objects that the member holds, when last asked.", memberLabels, nil)
	epochDesc    = prometheus.NewDesc("moongate_ha_group_epoch", "Epoch of the HA group's record; 0 while none is known.", []string{"group"}, nil)
)

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	// Those of one group: another group's collector beside it is another one.
	for _, d := range []*prometheus.Desc{stateDesc, sinceDesc, workDesc, failDesc, hedgeDesc, lagDesc, pendingDesc, equalDesc, objectsDesc, epochDesc} {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	group := c.g.config.Label
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{group}, labels...)...)
	}
	counter := func(d *prometheus.Desc, value uint64, member string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), group, member)
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, m := range c.g.Members() {
		for _, s := range States() {
			gauge(stateDesc, truth(m.State == s), m.Name, s.String())
		}
		gauge(sinceDesc, float64(m.Since.UnixMilli())/1000, m.Name)
		gauge(workDesc, float64(m.Outstanding), m.Name)
		counter(failDesc, m.Failovers, m.Name)
		counter(hedgeDesc, m.Hedges, m.Name)
		gauge(lagDesc, float64(m.Behind), m.Name)
		gauge(pendingDesc, float64(m.Pending), m.Name)
		gauge(equalDesc, truth(m.Equal), m.Name)
		gauge(objectsDesc, float64(m.Digest.Objects), m.Name)
	}
	gauge(epochDesc, float64(c.g.Record().Epoch))
}
