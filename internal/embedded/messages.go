package embedded

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

const (
	// maxMessages is how long a file of messages becomes, in bytes, before it
	// is put aside; one earlier file is kept. Whoever reaches a port can make a
	// program say something.
	maxMessages = 8 << 20
	// maxSaid bounds how much of what a program printed an error repeats.
	maxSaid = 4 << 10
)

// messages are what a supervised process prints, in a file of bounded length.
type messages struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File // guarded by mu
	size int64    // guarded by mu
	end  []byte   // the last maxSaid bytes since it was opened; guarded by mu
}

// openMessages appends to the file at path.
func openMessages(path string) (*messages, error) {
	m := &messages{path: path, limit: maxMessages}
	return m, m.open()
}

// open needs mu, or nobody else.
func (m *messages) open() error {
	file, err := os.OpenFile(m.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening messages: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("opening messages: %w", err), file.Close())
	}
	m.file, m.size = file, info.Size()
	return nil
}

// Write never fails: a program must not end because what it says has no room.
func (m *messages) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end = append(m.end, p...)
	m.end = m.end[max(0, len(m.end)-maxSaid):]
	if m.size > 0 && m.size+int64(len(p)) > m.limit {
		m.file.Close()
		_ = os.Rename(m.path, m.path+".1") // otherwise the file goes on growing
		if err := m.open(); err != nil {
			m.file = nil
		}
	}
	if m.file != nil {
		n, _ := m.file.Write(p)
		m.size += int64(n)
	}
	return len(p), nil
}

// said returns the last that was printed.
func (m *messages) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.TrimSpace(string(m.end))
}

// Close closes the file.
func (m *messages) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}
