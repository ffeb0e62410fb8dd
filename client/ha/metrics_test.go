package ha

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/client"
)

// TestMetrics: what monitoring reads of a member that is away and of one that is
// not.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	config := c.config(client.RoleCryptoOfficer)
	registry := prometheus.NewPedanticRegistry()
	config.Registerer = registry
	g := c.create(config)
	key := newEC(t, g, "k")
	must(t, c.hsms[1].kill())
	for range 4 {
		must(t, sign(key))
	}
	eventually(t, "lost", func() bool { return g.stateOf("hsmb") == Lost })
	for want, value := range map[string]float64{
		"moongate_ha_member_state hsma live":     1,
		"moongate_ha_member_state hsmb live":     0,
		"moongate_ha_member_state hsmb lost":     1,
		"moongate_ha_member_digest_equal hsma":   1,
		"moongate_ha_member_digest_equal hsmb":   0,
		"moongate_ha_member_behind_objects hsma": 0,
		"moongate_ha_member_behind_objects hsmb": -1,
		"moongate_ha_member_outstanding hsma":    0,
		"moongate_ha_group_epoch":                1,
	} {
		if got := metricsOf(t, registry)[want]; got != value {
			t.Errorf("%s is %v, want %v", want, got, value)
		}
	}
	must(t, g.Close())
	if n := len(metricsOf(t, registry)); n != 0 {
		t.Errorf("%d metrics after Close", n)
	}
}

// metricsOf are all values, by name and labels but the group's.
func metricsOf(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := []string{f.GetName()}
			for _, l := range m.Label {
				if l.GetName() != "group" {
					name = append(name, l.GetValue())
				}
			}
			values[strings.Join(name, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}
