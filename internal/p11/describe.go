package p11

import (
	"fmt"
	"io"
	"slices"

	"moongate/internal/hsm/object"
)

// Describe prints what a module sees: its tokens, and of what a gateway needs
// what they can do.
func Describe(w io.Writer, m Module) error {
	about, err := m.Info()
	if err != nil {
		return fmt.Errorf("asking the module what it is: %w", err)
	}
	slots, err := m.Slots()
	if err != nil {
		return fmt.Errorf("asking the module for its slots: %w", err)
	}
	fmt.Fprintf(w, "module: %s\n", about)
	if len(slots) == 0 {
		fmt.Fprintln(w, "no token: check the module's own configuration, and that the HSM can be reached")
	}
	for _, slot := range slots {
		fmt.Fprintf(w, "\nslot %d: %s\n", slot.ID, slot.Description)
		if slot.Flags&flagTokenInitialized == 0 {
			fmt.Fprintln(w, "  its token is not initialized")
			continue
		}
		fmt.Fprintf(w, "  token %q, serial number %s, %s %s\n", slot.Label, slot.Serial, slot.Manufacturer, slot.Model)
		fmt.Fprintf(w, "  PIN: %s\n", pinState(slot.Flags))
		list, err := m.Mechanisms(slot.ID)
		if err != nil {
			fmt.Fprintf(w, "  its mechanisms cannot be read: %v\n", err)
			continue
		}
		for _, use := range gatewayUses {
			state := "no: " + use.without
			if slices.Contains(list, use.mechanism) {
				state = "yes"
			}
			fmt.Fprintf(w, "  %-28s %s\n", use.name, state)
		}
	}
	return nil
}

func pinState(flags uint) string {
	switch {
	case flags&flagProtectedPath != 0:
		return "from a reader of its own, which no service can use"
	case flags&flagUserPINInitialized == 0:
		return "not set yet"
	case flags&flagUserPINLocked != 0:
		return "locked"
	case flags&flagUserPINFinalTry != 0:
		return "set; the next wrong one locks it"
	}
	return "set"
}

// gatewayUses are the mechanisms that a gateway asks for, and what is not
// possible without.
var gatewayUses = []struct {
	mechanism     uint
	name, without string
}{
	{uint(object.MechRSAPKCS), "CKM_RSA_PKCS", "RSA keys do not sign for TLS 1.2"},
	{uint(object.MechRSAPSS), "CKM_RSA_PKCS_PSS", "RSA keys do not sign for TLS 1.3"},
	{mechRSAX509, "CKM_RSA_X_509", "TLS 1.2's RSA key exchange shows by its time whether a padding was right"},
	{uint(object.MechECDSA), "CKM_ECDSA", "EC keys do not sign"},
	{uint(object.MechAESGCM), "CKM_AES_GCM", "the master key cannot be kept on this token"},
	{uint(object.MechRSAKeyPairGen), "CKM_RSA_PKCS_KEY_PAIR_GEN", "RSA keys are made with other tools"},
	{uint(object.MechECKeyPairGen), "CKM_EC_KEY_PAIR_GEN", "EC keys are made with other tools"},
	{uint(object.MechAESKeyGen), "CKM_AES_KEY_GEN", "wrapping keys are made with other tools"},
}
