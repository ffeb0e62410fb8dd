package revision

import (
	"context"
	"encoding/json"
	"fmt"

	"moongate/internal/gw/config"
)

// Watch tells of changes until ctx is done, and closes the channel then.
// Changes that come faster than they are read are told once.
func (s *Store) Watch(ctx context.Context) <-chan Event {
	w := make(chan Event, 16)
	s.mu.Lock()
	s.watchers[w] = true
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
		close(w)
	})
	return w
}

// ReadRunning reads the running configuration of a directory, for a program
// that does not run the gateway; also while one does. ErrNoValue is wrapped
// where there is none yet.
func ReadRunning(dir string) (*config.Node, Version, error) {
	s := &Store{backend: &Files{dir: dir, revisions: map[string]uint64{}}}
	raw, _, err := s.backend.Get(stateKey)
	if err != nil {
		return nil, Version{}, fmt.Errorf("reading the configuration's state: %w", err)
	}
	if err = json.Unmarshal(raw, &s.state); err == nil {
		err = s.state.check()
	}
	if err != nil {
		return nil, Version{}, fmt.Errorf("reading the configuration's state: %s is damaged: %w", s.backend.Name(stateKey), err)
	}
	root, err := s.readVersion(s.state.last())
	return root, s.state.last().Version, err
}
