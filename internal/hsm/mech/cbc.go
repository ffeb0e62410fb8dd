package mech

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"

	"moongate/internal/hsm/object"
)

// cbcEncrypt takes whole blocks.
func cbcEncrypt(block cipher.Block, iv, plaintext []byte) ([]byte, error) {
	if len(plaintext)%aes.BlockSize != 0 {
		return nil, object.Errorf(object.ErrDataLength, "plaintext has %d bytes, expected a multiple of %d", len(plaintext), aes.BlockSize)
	}
	out := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, plaintext)
	return out, nil
}

func cbcDecrypt(block cipher.Block, iv, ciphertext []byte) ([]byte, error) {
	if len(ciphertext)%aes.BlockSize != 0 {
		return nil, object.Errorf(object.ErrDataLength, "ciphertext has %d bytes, expected a multiple of %d", len(ciphertext), aes.BlockSize)
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, ciphertext)
	return out, nil
}

func cbcDecryptPadded(block cipher.Block, iv, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) == 0 {
		return nil, object.Errorf(object.ErrDataLength, "ciphertext is empty; padding makes it one block at least")
	}
	out, err := cbcDecrypt(block, iv, ciphertext)
	if err != nil {
		return nil, err
	}
	size, ok := unpad(out)
	if !ok {
		clear(out)
		return nil, object.Errorf(object.ErrEncryptedData, "ciphertext was not made with this key and IV, or was changed")
	}
	return out[:size], nil
}

// pad is RFC 5652, section 6.3: as many bytes as are missing to a whole block,
// each of which says how many they are.
func pad(plaintext []byte) []byte {
	missing := aes.BlockSize - len(plaintext)%aes.BlockSize
	out := make([]byte, len(plaintext)+missing)
	copy(out, plaintext)
	for i := len(plaintext); i < len(out); i++ {
		out[i] = byte(missing)
	}
	return out
}

// unpad returns the length of the plaintext in whole blocks, of which there is
// one at least. It takes the same time for any padding.
func unpad(padded []byte) (size int, ok bool) {
	last := padded[len(padded)-aes.BlockSize:]
	count := int(last[aes.BlockSize-1])
	good := subtle.ConstantTimeLessOrEq(1, count) & subtle.ConstantTimeLessOrEq(count, aes.BlockSize)
	for i, b := range last {
		inside := subtle.ConstantTimeLessOrEq(aes.BlockSize-i, count)
		good &= subtle.ConstantTimeByteEq(b, byte(count)) | (1 ^ inside)
	}
	return len(padded) - count, good == 1
}

// ctr encrypts and decrypts.
func ctr(block cipher.Block, iv, data []byte) []byte {
	out := make([]byte, len(data))
	cipher.NewCTR(block, iv).XORKeyStream(out, data)
	return out
}
