package p11

import "fmt"

// Module is what is used of a PKCS#11 module (Cryptoki, PKCS#11 v3.1, chapter
// 5). Calls come from many goroutines at once, each in a session of its own;
// they may block for ever, which the Token sees to. Errors are a CKR where the
// module gave one.
type Module interface {
	// Info says what the module is: its description and version.
	Info() (string, error)
	// Slots lists the slots with a token.
	Slots() ([]Slot, error)
	// Mechanisms lists what the slot's token can do, as CKM_ numbers.
	Mechanisms(slot uint) ([]uint, error)
	// OpenSession opens a session, one that may change the token where write is
	// set.
	OpenSession(slot uint, write bool) (uint, error)
	CloseSession(session uint) error
	CloseAllSessions(slot uint) error
	// LoggedIn reports whether the session, and so all of them, are the user's.
	LoggedIn(session uint) (bool, error)
	Login(session, user uint, pin []byte) error

	// Objects lists the token's objects that the session may see.
	Objects(session uint) ([]uint, error)
	// Attributes reads attributes; the value of one that the object does not
	// have, or does not tell, is nil.
	Attributes(session, object uint, types []uint) ([][]byte, error)

	Sign(session uint, m Mechanism, key uint, data []byte) ([]byte, error)
	Encrypt(session uint, m Mechanism, key uint, data []byte) ([]byte, error)
	Decrypt(session uint, m Mechanism, key uint, data []byte) ([]byte, error)
	GenerateKey(session, mechanism uint, template []Attribute) (uint, error)
	GenerateKeyPair(session, mechanism uint, public, private []Attribute) (pub, priv uint, err error)
	CreateObject(session uint, template []Attribute) (uint, error)
	Random(session uint, n int) ([]byte, error)

	// Finalize ends the module. No call is in flight.
	Finalize() error
}

// Slot is a slot with its token.
type Slot struct {
	ID           uint
	Description  string
	Label        string // the token's, without padding
	Serial       string
	Model        string
	Manufacturer string
	Flags        uint // CKF_ of CK_TOKEN_INFO
	MaxSessions  uint // ulMaxSessionCount; 0 where the token does not say
}

// Flags of a token (PKCS#11 v3.1, section 3.2).
const (
	flagUserPINInitialized = 0x00000008
	flagTokenInitialized   = 0x00000400
	flagUserPINFinalTry    = 0x00020000
	flagUserPINLocked      = 0x00040000
	flagProtectedPath      = 0x00000100
)

// Attribute is an attribute with its value as the module has it.
type Attribute struct {
	Type  uint
	Value []byte
}

// Mechanism is a mechanism and its parameters: at most one of them is set.
type Mechanism struct {
	Type uint
	PSS  *PSS
	GCM  *GCM
}

// PSS are the parameters of CKM_RSA_PKCS_PSS.
type PSS struct{ Hash, MGF, SaltLength uint }

// GCM are the parameters of CKM_AES_GCM, with a tag of 16 bytes. No IV is for
// the token to make. Encrypt sets IV to what stands in the parameters after it.
type GCM struct{ IV, AAD []byte }

// What the object package has no word for.
const (
	mechRSAX509            = 0x3   // CKM_RSA_X_509: the bare permutation
	attrAlwaysAuthenticate = 0x202 // CKA_ALWAYS_AUTHENTICATE
)

// CKR is what a module answered (CK_RV).
type CKR uint

// The answers that are told apart (PKCS#11 v3.1, section 5.1).
const (
	ckrHostMemory            CKR = 0x002
	ckrSlotIDInvalid         CKR = 0x003
	ckrGeneralError          CKR = 0x005
	ckrFunctionFailed        CKR = 0x006
	ckrArgumentsBad          CKR = 0x007
	ckrDeviceError           CKR = 0x030
	ckrDeviceRemoved         CKR = 0x032
	ckrKeyHandleInvalid      CKR = 0x060
	ckrMechanismInvalid      CKR = 0x070
	ckrMechanismParamInvalid CKR = 0x071
	ckrObjectHandleInvalid   CKR = 0x082
	ckrPINIncorrect          CKR = 0x0a0
	ckrPINInvalid            CKR = 0x0a1
	ckrPINLenRange           CKR = 0x0a2
	ckrPINExpired            CKR = 0x0a3
	ckrPINLocked             CKR = 0x0a4
	ckrSessionClosed         CKR = 0x0b0
	ckrSessionCount          CKR = 0x0b1
	ckrSessionHandleInvalid  CKR = 0x0b3
	ckrTokenNotPresent       CKR = 0x0e0
	ckrTokenNotRecognized    CKR = 0x0e1
	ckrUserAlreadyLoggedIn   CKR = 0x100
	ckrUserNotLoggedIn       CKR = 0x101
	ckrUserPINNotInitialized CKR = 0x102
	ckrNotInitialized        CKR = 0x190
)

// ckrNames are the names of what modules answer; CKR_ stands in front.
var ckrNames = map[CKR]string{
	0x001: "CANCEL", ckrHostMemory: "HOST_MEMORY", ckrSlotIDInvalid: "SLOT_ID_INVALID", ckrGeneralError: "GENERAL_ERROR",
	ckrFunctionFailed: "FUNCTION_FAILED", ckrArgumentsBad: "ARGUMENTS_BAD", 0x00a: "CANT_LOCK", 0x010: "ATTRIBUTE_READ_ONLY",
	0x011: "ATTRIBUTE_SENSITIVE", 0x012: "ATTRIBUTE_TYPE_INVALID", 0x013: "ATTRIBUTE_VALUE_INVALID", 0x01b: "ACTION_PROHIBITED",
	0x020: "DATA_INVALID", 0x021: "DATA_LEN_RANGE", ckrDeviceError: "DEVICE_ERROR", 0x031: "DEVICE_MEMORY",
	ckrDeviceRemoved: "DEVICE_REMOVED", 0x040: "ENCRYPTED_DATA_INVALID", 0x041: "ENCRYPTED_DATA_LEN_RANGE",
	0x050: "FUNCTION_CANCELED", 0x054: "FUNCTION_NOT_SUPPORTED", ckrKeyHandleInvalid: "KEY_HANDLE_INVALID",
	0x062: "KEY_SIZE_RANGE", 0x063: "KEY_TYPE_INCONSISTENT", 0x068: "KEY_FUNCTION_NOT_PERMITTED", 0x06a: "KEY_UNEXTRACTABLE",
	ckrMechanismInvalid: "MECHANISM_INVALID", ckrMechanismParamInvalid: "MECHANISM_PARAM_INVALID", ckrObjectHandleInvalid: "OBJECT_HANDLE_INVALID",
	0x090: "OPERATION_ACTIVE", 0x091: "OPERATION_NOT_INITIALIZED", ckrPINIncorrect: "PIN_INCORRECT", ckrPINInvalid: "PIN_INVALID",
	ckrPINLenRange: "PIN_LEN_RANGE", ckrPINExpired: "PIN_EXPIRED", ckrPINLocked: "PIN_LOCKED", ckrSessionClosed: "SESSION_CLOSED",
	ckrSessionCount: "SESSION_COUNT", ckrSessionHandleInvalid: "SESSION_HANDLE_INVALID", 0x0b5: "SESSION_READ_ONLY",
	0x0b7: "SESSION_READ_ONLY_EXISTS", 0x0d0: "TEMPLATE_INCOMPLETE", 0x0d1: "TEMPLATE_INCONSISTENT",
	ckrTokenNotPresent: "TOKEN_NOT_PRESENT", ckrTokenNotRecognized: "TOKEN_NOT_RECOGNIZED", 0x0e2: "TOKEN_WRITE_PROTECTED",
	ckrUserAlreadyLoggedIn: "USER_ALREADY_LOGGED_IN", ckrUserNotLoggedIn: "USER_NOT_LOGGED_IN",
	ckrUserPINNotInitialized: "USER_PIN_NOT_INITIALIZED", 0x103: "USER_TYPE_INVALID", 0x104: "USER_ANOTHER_ALREADY_LOGGED_IN",
	0x105: "USER_TOO_MANY_TYPES", 0x120: "RANDOM_SEED_NOT_SUPPORTED", 0x121: "RANDOM_NO_RNG", 0x130: "DOMAIN_PARAMS_INVALID",
	0x140: "CURVE_NOT_SUPPORTED", 0x150: "BUFFER_TOO_SMALL", ckrNotInitialized: "CRYPTOKI_NOT_INITIALIZED",
	0x191: "CRYPTOKI_ALREADY_INITIALIZED", 0x1a0: "MUTEX_BAD", 0x1a1: "MUTEX_NOT_LOCKED", 0x200: "FUNCTION_REJECTED",
}

func (c CKR) Error() string {
	if name, known := ckrNames[c]; known {
		return "CKR_" + name
	}
	return fmt.Sprintf("CKR_0x%08x", uint(c))
}
