package client

import "moongate/internal/hsm/object"

// The HSM's words, for programs outside of this module. Names and numbers are
// those of PKCS#11 v3.1.
type (
	ID            = object.ID
	OperationID   = object.OperationID
	Class         = object.Class
	KeyType       = object.KeyType
	Role          = object.Role
	Attribute     = object.Attribute
	AttributeType = object.AttributeType
	Template      = object.Template
	Found         = object.Found
	PartitionInfo = object.PartitionInfo
	Mechanism     = object.Mechanism
	MechanismType = object.MechanismType
	Hash          = object.Hash

	// HSMError is a refusal by the HSM.
	HSMError = object.Error
	Code     = object.Code
)

const (
	RoleNone          = object.RoleNone
	RoleCryptoOfficer = object.RoleCryptoOfficer
	RoleCryptoUser    = object.RoleCryptoUser

	ClassCertificate = object.ClassCertificate
	ClassPublicKey   = object.ClassPublicKey
	ClassPrivateKey  = object.ClassPrivateKey
	ClassSecretKey   = object.ClassSecretKey

	KeyRSA = object.KeyRSA
	KeyEC  = object.KeyEC
	KeyAES = object.KeyAES
)

const (
	AttrClass            = object.AttrClass
	AttrToken            = object.AttrToken
	AttrPrivate          = object.AttrPrivate
	AttrLabel            = object.AttrLabel
	AttrValue            = object.AttrValue
	AttrCertificateType  = object.AttrCertificateType
	AttrIssuer           = object.AttrIssuer
	AttrSerialNumber     = object.AttrSerialNumber
	AttrKeyType          = object.AttrKeyType
	AttrSubject          = object.AttrSubject
	AttrID               = object.AttrID
	AttrSensitive        = object.AttrSensitive
	AttrEncrypt          = object.AttrEncrypt
	AttrDecrypt          = object.AttrDecrypt
	AttrWrap             = object.AttrWrap
	AttrUnwrap           = object.AttrUnwrap
	AttrSign             = object.AttrSign
	AttrVerify           = object.AttrVerify
	AttrModulus          = object.AttrModulus
	AttrModulusBits      = object.AttrModulusBits
	AttrPublicExponent   = object.AttrPublicExponent
	AttrPublicKeyInfo    = object.AttrPublicKeyInfo
	AttrValueLen         = object.AttrValueLen
	AttrExtractable      = object.AttrExtractable
	AttrLocal            = object.AttrLocal
	AttrNeverExtractable = object.AttrNeverExtractable
	AttrAlwaysSensitive  = object.AttrAlwaysSensitive
	AttrKeyGenMechanism  = object.AttrKeyGenMechanism
	AttrECParams         = object.AttrECParams
	AttrECPoint          = object.AttrECPoint
	AttrHandle           = object.AttrHandle
	AttrCreated          = object.AttrCreated
)

const (
	MechRSAKeyPairGen = object.MechRSAKeyPairGen
	MechRSAPKCS       = object.MechRSAPKCS
	MechRSAPSS        = object.MechRSAPSS
	MechECKeyPairGen  = object.MechECKeyPairGen
	MechECDSA         = object.MechECDSA
	MechAESKeyGen     = object.MechAESKeyGen
	MechAESGCM        = object.MechAESGCM
	MechAESKWP        = object.MechAESKWP

	HashSHA256 = object.HashSHA256
	HashSHA384 = object.HashSHA384
	HashSHA512 = object.HashSHA512
)

// Codes of an HSMError that programs branch on.
const (
	ErrGeneral            = object.ErrGeneral
	ErrArgumentsBad       = object.ErrArgumentsBad
	ErrAttributeReadOnly  = object.ErrAttributeReadOnly
	ErrAttributeSensitive = object.ErrAttributeSensitive
	ErrAttributeType      = object.ErrAttributeType
	ErrAttributeValue     = object.ErrAttributeValue
	ErrActionProhibited   = object.ErrActionProhibited
	ErrDataInvalid        = object.ErrDataInvalid
	ErrDataLength         = object.ErrDataLength
	ErrDeviceError        = object.ErrDeviceError
	ErrEncryptedData      = object.ErrEncryptedData
	ErrFunctionCanceled   = object.ErrFunctionCanceled
	ErrNotSupported       = object.ErrNotSupported
	ErrKeyHandle          = object.ErrKeyHandle
	ErrKeySize            = object.ErrKeySize
	ErrKeyType            = object.ErrKeyType
	ErrKeyNotPermitted    = object.ErrKeyNotPermitted
	ErrKeyUnextractable   = object.ErrKeyUnextractable
	ErrMechanism          = object.ErrMechanism
	ErrMechanismParam     = object.ErrMechanismParam
	ErrObjectNotFound     = object.ErrObjectNotFound
	ErrPINIncorrect       = object.ErrPINIncorrect
	ErrPINLength          = object.ErrPINLength
	ErrPINLocked          = object.ErrPINLocked
	ErrSessionHandle      = object.ErrSessionHandle
	ErrTemplateIncomplete = object.ErrTemplateIncomplete
	ErrTemplateInconsist  = object.ErrTemplateInconsist
	ErrNotLoggedIn        = object.ErrNotLoggedIn
	ErrPINNotInitialized  = object.ErrPINNotInitialized
	ErrUserType           = object.ErrUserType
	ErrVersion            = object.ErrVersion
	ErrProtocol           = object.ErrProtocol
	ErrNotRegistered      = object.ErrNotRegistered
	ErrAddress            = object.ErrAddress
	ErrNotAssigned        = object.ErrNotAssigned
	ErrBusy               = object.ErrBusy
	ErrDeadline           = object.ErrDeadline
	ErrAuditFailed        = object.ErrAuditFailed
	ErrExists             = object.ErrExists
	ErrNotInitialized     = object.ErrNotInitialized
)

// NewTemplate sorts attributes into a Template; of two with the same type the
// later one wins.
func NewTemplate(list ...Attribute) Template { return object.New(list...) }

// BoolAttr, NumberAttr, TextAttr and BytesAttr make attributes.
func BoolAttr(t AttributeType, v bool) Attribute     { return object.Bool(t, v) }
func NumberAttr(t AttributeType, v uint64) Attribute { return object.Number(t, v) }
func TextAttr(t AttributeType, v string) Attribute   { return object.Text(t, v) }
func BytesAttr(t AttributeType, v []byte) Attribute  { return object.Bytes(t, v) }

// CodeOf returns the code of the HSMError in err: 0 for nil, ErrGeneral where
// there is none in it.
func CodeOf(err error) Code { return object.CodeOf(err) }
