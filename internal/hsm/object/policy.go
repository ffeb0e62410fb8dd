package object

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// PolicyID numbers a policy of a partition. Numbers are never used again.
type PolicyID uint32

const (
	// PolicySecretExtractable and PolicyPrivateExtractable allow keys that may
	// leave the HSM wrapped under another.
	PolicySecretExtractable  PolicyID = 1
	PolicyPrivateExtractable PolicyID = 2
	// PolicyPKCS1Decrypt allows decryption with RSA PKCS #1 v1.5 padding, which
	// TLS 1.2 with RSA key exchange needs.
	PolicyPKCS1Decrypt PolicyID = 3
	// PolicyMinRSA, PolicyMinEC and PolicyMinAES are the smallest keys in bits
	// that may be made, imported or used.
	PolicyMinRSA PolicyID = 4
	PolicyMinEC  PolicyID = 5
	PolicyMinAES PolicyID = 6
	// PolicyUserSigns lets the Crypto User sign.
	PolicyUserSigns PolicyID = 7
	// PolicyActivation keeps the partition's key in memory after the last
	// logout, until it is deactivated or the HSM stops.
	PolicyActivation PolicyID = 8
	// PolicyOfficerReset lets the Partition Security Officer give a Crypto
	// Officer whose password is lost a new one without losing the keys. It can
	// be set only before there is a Crypto Officer, and taken back at any time.
	PolicyOfficerReset PolicyID = 9
	// PolicyImport allows keys that were made elsewhere.
	PolicyImport PolicyID = 10
)

// PolicyInfo describes a policy.
type PolicyInfo struct {
	ID      PolicyID
	Name    string
	Help    string
	Default uint64
	// Allowed are the values that it may have; on or off is 1 or 0.
	Allowed []uint64
}

// PolicyValue is a policy and what it is set to.
type PolicyValue struct {
	ID    PolicyID
	Value uint64
}

var (
	onOff    = []uint64{0, 1}
	policies = []PolicyInfo{
		{PolicySecretExtractable, "extractable-secret-keys", "secret keys may be made that leave the HSM wrapped", 1, onOff},
		{PolicyPrivateExtractable, "extractable-private-keys", "private keys may be made that leave the HSM wrapped", 0, onOff},
		{PolicyPKCS1Decrypt, "rsa-pkcs1-decrypt", "RSA decryption with PKCS #1 v1.5 padding (TLS 1.2 with RSA key exchange)", 1, onOff},
		{PolicyMinRSA, "min-rsa-bits", "smallest RSA key in bits", 2048, []uint64{2048, 3072, 4096}},
		{PolicyMinEC, "min-ec-bits", "smallest elliptic-curve key in bits; Ed25519 and X25519 count as 256", 256, []uint64{256, 384, 521}},
		{PolicyMinAES, "min-aes-bits", "smallest AES key in bits", 128, []uint64{128, 192, 256}},
		{PolicyUserSigns, "user-may-sign", "the Crypto User may sign", 1, onOff},
		{PolicyActivation, "activation", "the partition stays unlocked in memory after the last logout", 0, onOff},
		{PolicyOfficerReset, "officer-reset", "the Partition Security Officer may reset the Crypto Officer's password and keep the keys", 0, onOff},
		{PolicyImport, "import", "keys that were made elsewhere may be imported", 1, onOff},
	}
)

// Policies lists the policies of a partition, by number.
func Policies() []PolicyInfo { return slices.Clone(policies) }

// Info returns the policy's description; ok is false for an unknown number.
func (id PolicyID) Info() (PolicyInfo, bool) {
	i, found := slices.BinarySearchFunc(policies, id, func(p PolicyInfo, id PolicyID) int { return cmp.Compare(p.ID, id) })
	if !found {
		return PolicyInfo{}, false
	}
	return policies[i], true
}

func (id PolicyID) String() string {
	if info, known := id.Info(); known {
		return info.Name
	}
	return "policy " + strconv.FormatUint(uint64(id), 10)
}

// ParsePolicy finds a policy by its name, whose case does not matter, or its
// number.
func ParsePolicy(text string) (PolicyInfo, error) {
	number, err := strconv.ParseUint(text, 10, 32)
	for _, p := range policies {
		if strings.EqualFold(p.Name, text) || err == nil && uint64(p.ID) == number {
			return p, nil
		}
	}
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.Name
	}
	return PolicyInfo{}, Errorf(ErrArgumentsBad, "policy %q is not known; expected one of %s, or its number", text, strings.Join(names, ", "))
}

// Check refuses a value that the policy cannot have.
func (p PolicyInfo) Check(value uint64) error {
	if slices.Contains(p.Allowed, value) {
		return nil
	}
	texts := make([]string, len(p.Allowed))
	for i, v := range p.Allowed {
		texts[i] = p.Format(v)
	}
	return Errorf(ErrArgumentsBad, "policy %s is %d; expected %s", p.Name, value, strings.Join(texts, " or "))
}

// Switch reports whether the policy is on or off.
func (p PolicyInfo) Switch() bool { return slices.Equal(p.Allowed, onOff) }

// Format writes a value as people read it: on, off, or a number.
func (p PolicyInfo) Format(value uint64) string {
	if !p.Switch() {
		return strconv.FormatUint(value, 10)
	}
	if value == 0 {
		return "off"
	}
	return "on"
}

// Parse reads a value: a number, or for a switch also on and off.
func (p PolicyInfo) Parse(text string) (uint64, error) {
	if p.Switch() {
		switch strings.ToLower(text) {
		case "on", "true", "yes":
			return 1, nil
		case "off", "false", "no":
			return 0, nil
		}
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, Errorf(ErrArgumentsBad, "policy %s is %q; expected a number, or on or off for a switch", p.Name, text)
	}
	return value, p.Check(value)
}
