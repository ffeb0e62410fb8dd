package client

import (
	"time"

	"moongate/internal/hsm/object"
)

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

	PartitionStatus = object.PartitionStatus
	RoleStatus      = object.RoleStatus
	PolicyID        = object.PolicyID
	PolicyInfo      = object.PolicyInfo
	PolicyValue     = object.PolicyValue

	HSMID         = object.HSMID
	ReplicaID     = object.ReplicaID
	Peer          = object.Peer
	Replica       = object.Replica
	ReplicaDigest = object.ReplicaDigest
	// GroupRecord is what the partitions of a group know of it.
	GroupRecord  = object.Group
	GroupMember  = object.Member
	Stamp        = object.Stamp
	Vector       = object.Vector
	VectorCount  = object.Count
	ObjectState  = object.ObjectState
	CloneOutcome = object.CloneOutcome
	CloneResult  = object.CloneResult

	// HSMError is a refusal by the HSM.
	HSMError = object.Error
	Code     = object.Code
)

const (
	RoleNone             = object.RoleNone
	RoleCryptoOfficer    = object.RoleCryptoOfficer
	RoleCryptoUser       = object.RoleCryptoUser
	RolePartitionOfficer = object.RolePartitionOfficer

	ClassCertificate = object.ClassCertificate
	ClassPublicKey   = object.ClassPublicKey
	ClassPrivateKey  = object.ClassPrivateKey
	ClassSecretKey   = object.ClassSecretKey

	KeyRSA        = object.KeyRSA
	KeyEC         = object.KeyEC
	KeyGeneric    = object.KeyGeneric
	KeyAES        = object.KeyAES
	KeyEdwards    = object.KeyEdwards
	KeyMontgomery = object.KeyMontgomery
)

// What became of one object of a clone.
const (
	CloneAdded     = object.CloneAdded
	CloneUpdated   = object.CloneUpdated
	CloneUnchanged = object.CloneUnchanged
	CloneDestroyed = object.CloneDestroyed
	CloneDead      = object.CloneDead
	CloneMerged    = object.CloneMerged
	CloneRefused   = object.CloneRefused
)

// Limits of groups and clones.
const (
	MinMembers    = object.MinMembers
	MaxMembers    = object.MaxMembers
	MaxGroupLabel = object.MaxGroupLabel
	MaxMemberName = object.MaxMemberName
	MaxClone      = object.MaxClone // objects
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
	AttrDerive           = object.AttrDerive
	AttrStartDate        = object.AttrStartDate
	AttrEndDate          = object.AttrEndDate
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
	AttrUses             = object.AttrUses
)

const (
	MechRSAKeyPairGen    = object.MechRSAKeyPairGen
	MechRSAPKCS          = object.MechRSAPKCS
	MechRSAOAEP          = object.MechRSAOAEP
	MechRSAPSS           = object.MechRSAPSS
	MechSHA256HMAC       = object.MechSHA256HMAC
	MechSHA384HMAC       = object.MechSHA384HMAC
	MechSHA512HMAC       = object.MechSHA512HMAC
	MechGenericSecretGen = object.MechGenericSecretGen
	MechECKeyPairGen     = object.MechECKeyPairGen
	MechECDSA            = object.MechECDSA
	MechECDH1Derive      = object.MechECDH1Derive
	MechRSAAESKeyWrap    = object.MechRSAAESKeyWrap
	MechEdwardsGen       = object.MechEdwardsGen
	MechMontgomeryGen    = object.MechMontgomeryGen
	MechEdDSA            = object.MechEdDSA
	MechAESKeyGen        = object.MechAESKeyGen
	MechAESCBC           = object.MechAESCBC
	MechAESCBCPad        = object.MechAESCBCPad
	MechAESCTR           = object.MechAESCTR
	MechAESGCM           = object.MechAESGCM
	MechAESCMAC          = object.MechAESCMAC
	MechAESKW            = object.MechAESKW
	MechAESKWP           = object.MechAESKWP
	MechHKDFDerive       = object.MechHKDFDerive

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
	ErrSignatureInvalid   = object.ErrSignatureInvalid
	ErrSignatureLength    = object.ErrSignatureLength
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
	ErrKeyDate            = object.ErrKeyDate
	ErrPolicy             = object.ErrPolicy
	ErrDelayed            = object.ErrDelayed
)

// NewTemplate sorts attributes into a Template; of two with the same type the
// later one wins.
func NewTemplate(list ...Attribute) Template { return object.New(list...) }

// BoolAttr, NumberAttr, TextAttr, BytesAttr and DateAttr make attributes.
func BoolAttr(t AttributeType, v bool) Attribute     { return object.Bool(t, v) }
func NumberAttr(t AttributeType, v uint64) Attribute { return object.Number(t, v) }
func TextAttr(t AttributeType, v string) Attribute   { return object.Text(t, v) }
func BytesAttr(t AttributeType, v []byte) Attribute  { return object.Bytes(t, v) }

// DateAttr makes a date attribute of a day in UTC; the zero time is no date.
func DateAttr(t AttributeType, day time.Time) Attribute { return object.Date(t, day) }

// Policies lists the policies of a partition; ParsePolicy finds one by its name
// or number.
func Policies() []PolicyInfo                      { return object.Policies() }
func ParsePolicy(text string) (PolicyInfo, error) { return object.ParsePolicy(text) }

// CodeOf returns the code of the HSMError in err: 0 for nil, ErrGeneral where
// there is none in it.
func CodeOf(err error) Code { return object.CodeOf(err) }
