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
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	body := bytes.TrimSuffix(bytes.TrimPrefix(text, []byte("-----BEGIN PRIVATE KEY-----\n")), []byte("\n-----END PRIVATE KEY-----\n"))
	return append(list, Secret{name + " DER", secretPart(der, key)}, Secret{name + " PEM", body}), nil
}

// secretPart is the DER from where it stops being public: an encoding begins
// with lengths, algorithm and, for RSA, the modulus, which certificates hold
// too.
func secretPart(der []byte, key any) []byte {
	var first []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		first = key.D.Bytes()
	case *ecdsa.PrivateKey:
		first, _ = key.Bytes()
		at := bytes.Index(der, first)
		return der[at : at+len(first)] // the public key follows it
	}
	return der[bytes.Index(der, first):]
}

// Searcher looks for any number of secrets at once.
type Searcher struct {
	// windows are those of all secrets by their first 8 bytes; filter says
	// quickly that there is none.
	windows map[uint64][]place
	filter  [1 << filterBits / 64]uint64
}

const filterBits = 22

type place struct {
	secret *Secret
	at     int
}

// New returns a Searcher. A PEM body is searched from its second line on: the
// first is the same in every key of a kind, and holds the beginning of the
// public part.
func New(secrets []Secret) *Searcher {
	s := &Searcher{windows: map[uint64][]place{}}
	for i := range secrets {
		secret := &secrets[i]
		from := 0
		if strings.HasSuffix(secret.Name, " PEM") {
			from = pemSecretStart(secret.Value)
		}
		for at := from; at+window <= len(secret.Value); at++ {
			head := binary.LittleEndian.Uint64(secret.Value[at:])
			s.windows[head] = append(s.windows[head], place{secret, at})
			h := mix(head)
			s.filter[h/64] |= 1 << (h % 64)
		}
	}
	return s
}

// pemSecretStart skips the lines that hold the algorithm and, for RSA keys of
// 2048 bits and more, the modulus (about 300 bytes, 400 letters); a P-256 key
// has its scalar in the first line and its public key from the second on.
func pemSecretStart(body []byte) int {
	if len(body) < 400 {
		return 48 // 36 bytes of header before the scalar
	}
	return 460
}

func mix(v uint64) uint64 { return v * 0x9e3779b97f4a7c15 >> (64 - filterBits) }

// Find is a place where a secret was found.
type Find struct {
	Secret  string
	Address uint64
}

// maxFinds bounds what one search returns.
const maxFinds = 1000

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
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		from, to, readable, err := parseMapping(lines.Text())
		if err != nil {
			return nil, 0, err
		}
		if !readable {
			continue
		}
		found, n, err := s.Range(mem, from, to)
		finds, searched = append(finds, found...), searched+n
		if err != nil {
			return nil, 0, err
		}
		if len(finds) >= maxFinds {
			break
		}
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

// chunk is how much is read at a time; chunks overlap by a window.
const chunk = 4 << 20

// Range searches the bytes of r from one offset to another. Pages that cannot
// be read are skipped.
func (s *Searcher) Range(r io.ReaderAt, from, to uint64) (finds []Find, searched int64, err error) {
	buf := make([]byte, chunk+window)
	for at := from; at < to; at += chunk {
		n, err := r.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at))
		if n == 0 && err != nil {
			continue
		}
		searched += int64(min(n, chunk))
		finds = append(finds, s.search(buf[:n], at)...)
		if len(finds) >= maxFinds {
			return finds, searched, nil
		}
	}
	return finds, searched, nil
}

func (s *Searcher) search(b []byte, base uint64) []Find {
	var finds []Find
	for i := 0; i+window <= len(b); i++ {
		head := binary.LittleEndian.Uint64(b[i:])
		h := mix(head)
		if s.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		for _, p := range s.windows[head] {
			if bytes.Equal(b[i:i+window], p.secret.Value[p.at:p.at+window]) {
				finds = append(finds, Find{p.secret.Name, base + uint64(i)})
				break
			}
		}
	}
	return finds
}
