package daemon

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"moongate/internal/hsm/adminshell"
)

// Figures are the numbers that metrics and `status` both show. Numbers that
// cannot be read are 0: a file may be moving just now.
func (d *served) Figures() adminshell.Figures {
	f := adminshell.Figures{
		Started:    d.started,
		StoreBytes: fileSize(d.appliance.files.Store()),
		AuditBytes: treeSize(d.appliance.files.Audit()),
		FreeBytes:  freeBytes(d.appliance.files.dir),
	}
	if g := d.ntls.get(); g != nil {
		s := g.server.Stats()
		f.Connections, f.Sessions, f.Queued, f.InFlight = s.Connections, s.Sessions, s.Queued, s.InFlight
		f.Operations, f.Failed = s.Operations, s.Failed
	}
	f.Records = uint64(d.appliance.Journal.Len())
	if info, err := os.Stat(d.appliance.files.checkpoints()); err == nil {
		f.Checkpoint = info.ModTime()
	}
	return f
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func treeSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			total += fileSize(path)
		}
		return nil // what is not there counts nothing
	})
	return total
}

func freeBytes(dir string) uint64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0
	}
	return s.Bavail * uint64(s.Bsize)
}

// storage shows the figures that are not the server's.
type storage struct {
	d    *served
	list []gauge
}

type gauge struct {
	desc  *prometheus.Desc
	value func(adminshell.Figures) float64
}

func newStorage(d *served) *storage {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("moongate_hsm_"+name, help, nil, nil)
	}
	return &storage{d, []gauge{
		{describe("store_bytes", "Size of the store's file."), func(f adminshell.Figures) float64 { return float64(f.StoreBytes) }},
		{describe("audit_bytes", "Size of the audit log's directory."), func(f adminshell.Figures) float64 { return float64(f.AuditBytes) }},
		{describe("free_bytes", "What is left on the data directory's file system."), func(f adminshell.Figures) float64 { return float64(f.FreeBytes) }},
		{describe("audit_records", "Records of the audit log."), func(f adminshell.Figures) float64 { return float64(f.Records) }},
		{describe("audit_checkpoint_timestamp_seconds", "When the audit log's newest checkpoint was signed; 0 before the first."), func(f adminshell.Figures) float64 {
			if f.Checkpoint.IsZero() {
				return 0
			}
			return float64(f.Checkpoint.UnixMilli()) / 1000
		}},
		{describe("audit_failing", "1 while the audit log cannot be written, 0 otherwise."), func(adminshell.Figures) float64 { return number(d.appliance.Journal.Err() != nil) }},
		{describe("syslog_connected", "1 while the audit log's collector is connected, 0 while it is not and where there is none."), func(adminshell.Figures) float64 {
			return number(d.collector != nil && d.collector.Status().Connected)
		}},
		{describe("initialized", "1 when there is an HSM, 0 before its initialisation and after its zeroization."), func(adminshell.Figures) float64 { return number(d.appliance.HSM.Initialized()) }},
	}}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (s *storage) Describe(out chan<- *prometheus.Desc) {
	for _, g := range s.list {
		out <- g.desc
	}
}

func (s *storage) Collect(out chan<- prometheus.Metric) {
	figures := s.d.Figures()
	for _, g := range s.list {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(figures))
	}
}

// gatherer is everything that /metrics shows.
func (d *served) gatherer(version string) (prometheus.Gatherer, error) {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "moongate_hsm_build_info", Help: "Always 1; its label is the program's version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		newStorage(d), build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return prometheus.Gatherers{r, d.ntls}, nil
}
