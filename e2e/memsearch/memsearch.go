// Package memsearch looks for private keys in the memory of a running process:
// for any 32 bytes in a row of any secret number of a key, in either byte
// order, and of its DER and PEM. It is how the claim that the gateway holds no
// key is put to the test, and the same search in the HSM's memory, where the
// keys must be found, is the test of the search.
package memsearch

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// window is how many bytes in a row make a find.
const window = 32

// Secret is something that must not be in memory.
type Secret struct {
	Name  string
	Value []byte
}

// Secrets lists what is secret about a private key, *rsa.PrivateKey or
// *ecdsa.PrivateKey.
func Secrets(name string, key any) ([]Secret, error) {
	var list []Secret
	add := func(part string, value []byte) {
		little := slices.Clone(value)
		slices.Reverse(little)
		list = append(list, Secret{name + " " + part + " (big-endian)", value}, Secret{name + " " + part + " (little-endian)", little})
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		key.Precompute()
		add("d", key.D.Bytes())
		add("p", key.Primes[0].Bytes())
		add("q", key.Primes[1].Bytes())
		add("dP", key.Precomputed.Dp.Bytes())
		add("dQ", key.Precomputed.Dq.Bytes())
		add("qInv", key.Precomputed.Qinv.Bytes())
	case *ecdsa.PrivateKey:
		d, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		add("scalar", d)
	default:
		return nil, fmt.Errorf("a %T has no secrets that are known here", key)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	from, to := secretPart(der, key)
	return append(list,
		Secret{name + " DER", der[from:to]},
		Secret{name + " PEM", pemPart(der, from, to)}), nil
}

// secretPart is the range of the DER that is secret: an encoding begins with
// lengths, algorithm and, for RSA, the modulus; one of an EC key ends with the
// public key. Certificates hold those too.
func secretPart(der []byte, key any) (from, to int) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return bytes.Index(der, key.D.Bytes()), len(der)
	case *ecdsa.PrivateKey:
		d, _ := key.Bytes() // Secrets has called it
		from = bytes.Index(der, d)
		return from, from + len(d)
	}
	return 0, len(der)
}

// pemPart is the part of the PEM body that holds bytes of the range and no
// others: four letters for three bytes, 64 letters a line.
func pemPart(der []byte, from, to int) []byte {
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	body := text[bytes.IndexByte(text, '\n')+1:]
	at := func(letter int) int { return letter + letter/64 }
	return body[at((from+2)/3*4):at(to/3*4)]
}

// Searcher looks for any number of secrets at once.
type Searcher struct {
	// windows are those of all secrets by their first 8 bytes; filter says
	// quickly that there is none.
	windows map[uint64][]place
	filter  [1 << filterBits / 64]uint64
	// chunk is how much is read at a time; chunks overlap by a window.
	chunk uint64
}

const filterBits = 22

type place struct {
	secret *Secret
	at     int
}

// New returns a Searcher.
func New(secrets []Secret) *Searcher {
	s := &Searcher{windows: map[uint64][]place{}, chunk: 4 << 20}
	for i := range secrets {
		secret := &secrets[i]
		for at := 0; at+window <= len(secret.Value); at++ {
			head := binary.LittleEndian.Uint64(secret.Value[at:])
			s.windows[head] = append(s.windows[head], place{secret, at})
			h := mix(head)
			s.filter[h/64] |= 1 << (h % 64)
		}
	}
	return s
}

func mix(v uint64) uint64 { return v * 0x9e3779b97f4a7c15 >> (64 - filterBits) }

// Find is a place where a secret was found.
type Find struct {
	Secret  string
	Address uint64
}

// maxFinds bounds the finds of one secret in a search.
const maxFinds = 10

// Process searches all readable memory of a process. It returns how many bytes
// were searched: a search of nothing finds nothing.
func (s *Searcher) Process(pid int) (finds []Find, searched int64, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the process's memory map: %w", err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, 0, fmt.Errorf("opening the process's memory (it takes root): %w", err)
	}
	defer mem.Close()
	found := map[*Secret]int{}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		from, to, readable, err := parseMapping(lines.Text())
		if err != nil {
			return nil, 0, err
		}
		if !readable {
			continue
		}
		more, n := s.searchRange(mem, from, to, found)
		finds, searched = append(finds, more...), searched+n
	}
	if searched == 0 {
		return nil, 0, errors.New("no memory of the process could be read")
	}
	return finds, searched, nil
}

func parseMapping(line string) (from, to uint64, readable bool, err error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, 0, false, fmt.Errorf("mapping %q is not understood", line)
	}
	low, high, _ := strings.Cut(fields[0], "-")
	if from, err = strconv.ParseUint(low, 16, 64); err != nil {
		return 0, 0, false, err
	}
	if to, err = strconv.ParseUint(high, 16, 64); err != nil {
		return 0, 0, false, err
	}
	special := len(fields) > 5 && (fields[5] == "[vvar]" || fields[5] == "[vsyscall]")
	return from, to, strings.HasPrefix(fields[1], "r") && !special, nil
}

// Range searches the bytes of r from one offset to another, as Process does,
// and returns how many could be read.
func (s *Searcher) Range(r io.ReaderAt, from, to uint64) (finds []Find, searched int64) {
	return s.searchRange(r, from, to, map[*Secret]int{})
}

// searchRange skips pages that cannot be read.
func (s *Searcher) searchRange(r io.ReaderAt, from, to uint64, found map[*Secret]int) (finds []Find, searched int64) {
	buf := make([]byte, s.chunk+window)
	for at := from; at < to; at += s.chunk {
		n, err := r.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at))
		if n == 0 && err != nil {
			continue
		}
		searched += min(int64(n), int64(s.chunk))
		finds = append(finds, s.search(buf[:n], at, found)...)
	}
	return finds, searched
}

// search looks at one chunk. It touches nothing that others share, and the race
// detector would make it forty times slower.
//
//go:norace
func (s *Searcher) search(b []byte, base uint64, found map[*Secret]int) []Find {
	var finds []Find
	for i := 0; i+window <= len(b); i++ {
		head := binary.LittleEndian.Uint64(b[i:])
		h := mix(head)
		if s.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		for _, p := range s.windows[head] {
			if bytes.Equal(b[i:i+window], p.secret.Value[p.at:p.at+window]) {
				if found[p.secret]++; found[p.secret] <= maxFinds {
					finds = append(finds, Find{p.secret.Name, base + uint64(i)})
				}
				break
			}
		}
	}
	return finds
}
