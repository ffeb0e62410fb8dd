package logstore

import "github.com/prometheus/client_golang/prometheus"

// figures are those of a store, for monitoring.
type figures struct{ s *Store }

var (
	writtenFigure = prometheus.NewDesc("moongate_log_entries_total", "Entries written, by database.", []string{"log"}, nil)
	lostFigure    = prometheus.NewDesc("moongate_log_lost_total", "Entries lost, by database.", []string{"log"}, nil)
	deletedFigure = prometheus.NewDesc("moongate_log_deleted_total", "Entries deleted by retention, by database.", []string{"log"}, nil)
	waitingFigure = prometheus.NewDesc("moongate_log_waiting", "Entries that wait to be written, by database.", []string{"log"}, nil)
	bytesFigure   = prometheus.NewDesc("moongate_log_bytes", "Size of the database's file in bytes.", []string{"log"}, nil)
	sentFigure    = prometheus.NewDesc("moongate_syslog_messages_total", "Messages sent, repetitions included, by server.", []string{"server"}, nil)
	droppedFigure = prometheus.NewDesc("moongate_syslog_dropped_total", "Messages dropped since the server took none, by server.", []string{"server"}, nil)
)

func (f figures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{writtenFigure, lostFigure, deletedFigure, waitingFigure, bytesFigure, sentFigure, droppedFigure} {
		ch <- d
	}
}

func (f figures) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, label)
	}
	for _, st := range f.s.Status() {
		send(writtenFigure, prometheus.CounterValue, float64(st.Written), string(st.Log))
		send(lostFigure, prometheus.CounterValue, float64(st.Lost), string(st.Log))
		send(deletedFigure, prometheus.CounterValue, float64(st.Deleted), string(st.Log))
		send(waitingFigure, prometheus.GaugeValue, float64(st.Waiting), string(st.Log))
		send(bytesFigure, prometheus.GaugeValue, float64(st.Bytes), string(st.Log))
	}
	for _, st := range f.s.Forwarding() {
		send(sentFigure, prometheus.CounterValue, float64(st.Sent), st.Server)
		send(droppedFigure, prometheus.CounterValue, float64(st.Dropped), st.Server)
	}
}
