package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/revision"
)

// Running returns the running configuration of a data directory, beside the
// gateway that may run on it: before the first start, that of the file which it
// will take over. The error matches fs.ErrNotExist where there is neither. Of a
// configuration that cannot be used any more it is the device's own part.
func Running(files Files) (*config.Snapshot, error) {
	root, _, err := revision.ReadRunning(files.Revisions())
	if errors.Is(err, revision.ErrNoValue) || errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(files.Config()); err != nil {
			return nil, err
		}
		snapshot, _, err := config.Load(files.Config())
		return snapshot, err
	} else if err != nil {
		return nil, err
	}
	snapshot, _, err := config.Compile(root, time.Now())
	if err == nil {
		return snapshot, nil
	}
	own, failed := config.Select(root, config.DevicePath+"/deviceconfig")
	if failed != nil || len(own) != 1 {
		return nil, err
	}
	least, failed := config.Apply(config.Default(), config.Edit{Op: config.OpEdit, Path: config.DevicePath + "/deviceconfig", Elements: own})
	if failed != nil {
		return nil, fmt.Errorf("%w; %w", err, failed)
	}
	snapshot, _, failed = config.Compile(least, time.Now())
	if failed != nil {
		return nil, fmt.Errorf("%w; %w", err, failed)
	}
	return snapshot, nil
}
