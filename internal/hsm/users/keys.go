package users

import (
	"bytes"
	"crypto/rsa"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"moongate/internal/hsm/object"
)

// Key is a public key that opens an account.
type Key struct {
	Type        string `json:"type"`        // as in SSH: ssh-ed25519, ...
	Fingerprint string `json:"fingerprint"` // SHA256:... as ssh-keygen -l prints it
	Comment     string `json:"comment"`
	Line        string `json:"line"` // of authorized_keys

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
		return Key{}, object.Errorf(object.ErrArgumentsBad, "public key: "+format, args...)
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
			return object.Errorf(object.ErrKeySize, "public key: RSA of %d bits; expected %d to %d", bits, minRSA, maxRSA)
		}
	}
	return nil
}

// sameKey compares two canonical lines without their comments.
func sameKey(a, b string) bool { return withoutComment(a) == withoutComment(b) }

func withoutComment(line string) string {
	kind, rest, _ := strings.Cut(line, " ")
	blob, _, _ := strings.Cut(rest, " ")
	return kind + " " + blob
}

// holds reports whether a key opens the account. Public keys are not secret;
// what a caller may learn is bounded where it asks.
func (a *account) holds(key ssh.PublicKey) bool {
	wanted := key.Marshal()
	return slices.ContainsFunc(a.Keys, func(line string) bool {
		k, err := ParseKey(line)
		return err == nil && bytes.Equal(k.blob, wanted)
	})
}
