package login

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// Key is a public key that opens an account.
type Key struct {
	Type        string `json:"type"`        // as in SSH: ssh-ed25519, ...
	Fingerprint string `json:"fingerprint"` // SHA256:... as ssh-keygen -l prints it
	Comment     string `json:"comment"`
	Line        string `json:"line"` // of authorized_keys, canonical

	blob []byte
}

// maxKeyLine bounds a line of authorized_keys in bytes: RSA of 16384 bits has
// about 2,800. minRSA and maxRSA are bits of the modulus; verifying with a
// longer one is work for whoever asks.
const (
	maxKeyLine    = 4096
	maxKeyComment = 128
	minRSA        = 2048
	maxRSA        = 8192
)

// ErrKeySize is matched by the error of a key that is too short, or too long.
var ErrKeySize = errors.New("public key")

// keyTypes are the keys that may open an account. RSA keys sign with SHA-2
// alone; sshd sees to that. The sk- types are held by a FIDO token.
var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSA, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
}

// ParseKey reads one line as ssh-keygen writes it to a .pub file: type, base64,
// comment. Options before the type are refused: nothing here obeys them.
func ParseKey(line string) (Key, error) {
	line = strings.TrimSpace(line)
	bad := func(format string, args ...any) (Key, error) {
		return Key{}, fmt.Errorf("public key: "+format, args...)
	}
	if len(line) > maxKeyLine {
		return bad("the line has %d bytes, at most %d", len(line), maxKeyLine)
	}
	if strings.Contains(line, "PRIVATE KEY") {
		return bad("this is a private key; give the line of its .pub file, and consider the private key known")
	}
	if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) {
		return bad("expected one printable line, as in a .pub file of ssh-keygen")
	}
	kind, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	if !slices.Contains(keyTypes, kind) {
		return bad("the line begins with %.40q; expected one of %s (options are not taken)", kind, strings.Join(keyTypes, ", "))
	}
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(rest) > 0 || key.Type() != kind {
		return bad("what follows %s is no such key in base64", kind)
	}
	if len(comment) > maxKeyComment {
		return bad("the comment has %d bytes, at most %d", len(comment), maxKeyComment)
	}
	if err := checkStrength(key); err != nil {
		return Key{}, err
	}
	comment = strings.Join(strings.Fields(comment), " ")
	canonical := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
	if comment != "" {
		canonical += " " + comment
	}
	return Key{Type: kind, Fingerprint: ssh.FingerprintSHA256(key), Comment: comment, Line: canonical, blob: key.Marshal()}, nil
}

func checkStrength(key ssh.PublicKey) error {
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil // a FIDO token's; its curve is in its type
	}
	if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
		if bits := r.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("%w: RSA of %d bits; expected %d to %d", ErrKeySize, bits, minRSA, maxRSA)
		}
	}
	return nil
}

// Same reports whether two keys are one, whatever their comments.
func (k Key) Same(other Key) bool { return bytes.Equal(k.blob, other.blob) }

// Is reports whether this is the key that a peer showed. Public keys are not
// secret; what a caller may learn is bounded where it asks.
func (k Key) Is(shown ssh.PublicKey) bool { return bytes.Equal(k.blob, shown.Marshal()) }
