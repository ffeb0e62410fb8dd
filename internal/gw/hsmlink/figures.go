package hsmlink

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/client/ha"
)

// figures are the link's metrics.
type figures struct {
	manager *Manager

	mu    sync.Mutex
	count map[string]float64 // changes of state by server; guarded by mu
}

func (f *figures) changes(server string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[string]float64{}
	}
	f.count[server]++
}

var (
	stageDesc = prometheus.NewDesc("moongate_hsm_server_stage",
		"Whether a stage on the way to a server's keys is green (1), red (0) or not reached (-1).", []string{"server", "stage"}, nil)
	authenticatedDesc = prometheus.NewDesc("moongate_hsm_server_authenticated",
		"Whether the gateway is logged in to the server's partition.", []string{"server"}, nil)
	changesDesc = prometheus.NewDesc("moongate_hsm_server_state_changes_total",
		"Changes of a server's state.", []string{"server"}, nil)
	ageDesc = prometheus.NewDesc("moongate_hsm_status_age_seconds",
		"How old the servers' states are.", nil, nil)
	memberDesc = prometheus.NewDesc("moongate_hsm_member_state",
		"In which state a member of the group is: 1 for that one, 0 for the others.", []string{"server", "state"}, nil)
	outstandingDesc = prometheus.NewDesc("moongate_hsm_member_outstanding",
		"Calls that wait for a member's answer.", []string{"server"}, nil)
	failoversDesc = prometheus.NewDesc("moongate_hsm_member_failovers_total",
		"Calls that went on elsewhere after they failed on a member.", []string{"server"}, nil)
	hedgesDesc = prometheus.NewDesc("moongate_hsm_member_hedges_total",
		"Calls that were asked elsewhere too since a member was slow.", []string{"server"}, nil)
	behindDesc = prometheus.NewDesc("moongate_hsm_member_behind_objects",
		"Objects of which a member holds something else than the others; -1 where that is not known yet.", []string{"server"}, nil)
)

// Describe implements prometheus.Collector.
func (f *figures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stageDesc, authenticatedDesc, changesDesc, ageDesc, memberDesc, outstandingDesc, failoversDesc, hedgesDesc, behindDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	status := f.manager.Status()
	if status.Provider == "" {
		return
	}
	gauge(ageDesc, status.Age(f.manager.o.Now()).Seconds())
	for i := range status.Servers {
		s := &status.Servers[i]
		for _, stage := range s.Stages {
			gauge(stageDesc, map[Level]float64{Green: 1, Red: 0, Waiting: -1}[stage.Level], s.Name, string(stage.Name))
		}
		gauge(authenticatedDesc, truth(s.State == StateAuthenticated), s.Name)
		f.mu.Lock()
		counter(changesDesc, f.count[s.Name], s.Name)
		f.mu.Unlock()
		if s.Member == nil {
			continue
		}
		for _, state := range ha.States() {
			gauge(memberDesc, truth(s.Member.State == state), s.Name, state.String())
		}
		gauge(outstandingDesc, float64(s.Member.Outstanding), s.Name)
		counter(failoversDesc, float64(s.Member.Failovers), s.Name)
		counter(hedgesDesc, float64(s.Member.Hedges), s.Name)
		gauge(behindDesc, float64(s.Member.Behind), s.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
