package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A frame is one line of text, so that a person can read the file:
//
//	J1 LENGTH CRC BASE {record}\n
//
// LENGTH (8 hex digits) counts the bytes of the record, CRC (8) is the CRC32C
// of BASE and record, and BASE (16) is the sequence number of the first record
// that was written by the same fdatasync. A record whose BASE lies behind a
// damaged place proves that the damaged place had been acknowledged.
const (
	magic      = "J1 "
	headerSize = len(magic) + 8 + 1 + 8 + 1 + 16 + 1
)

// frame is a record as it was found.
type frame struct {
	record Record
	base   uint64
	size   int // with header and line end
}

// castagnoli is CRC32C over parts as if they were one (RFC 3720, appendix B.4).
// It guards against torn and rotten bytes, not against people.
func castagnoli(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// encode writes rec as one line of JSON without its end. Data stays as it is
// but for white space between its parts.
func encode(rec Record) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(rec)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// appendFrame encodes rec behind dst.
func appendFrame(dst []byte, rec Record, base uint64) ([]byte, error) {
	body, err := encode(rec)
	if err != nil {
		return dst, err
	}
	if len(body) > MaxRecord {
		return dst, fmt.Errorf("the record has %d bytes, more than %d", len(body), MaxRecord)
	}
	hex := fmt.Appendf(nil, "%016x", base)
	dst = fmt.Appendf(dst, "%s%08x %08x %s ", magic, len(body), castagnoli(hex, body), hex)
	return append(append(dst, body...), '\n'), nil
}

// parseFrame reads the frame at the start of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(magic)) {
		return frame{}, errors.New("no frame header")
	}
	length, err1 := strconv.ParseUint(string(b[3:11]), 16, 32)
	crc, err2 := strconv.ParseUint(string(b[12:20]), 16, 32)
	base, err3 := strconv.ParseUint(string(b[21:37]), 16, 64)
	if err := errors.Join(err1, err2, err3); err != nil || b[11] != ' ' || b[20] != ' ' || b[37] != ' ' {
		return frame{}, errors.New("a damaged frame header")
	}
	size := headerSize + int(length) + 1
	if length > MaxRecord || size > len(b) || b[size-1] != '\n' {
		return frame{}, errors.New("an incomplete frame")
	}
	body := b[headerSize : size-1]
	if castagnoli(b[21:37], body) != uint32(crc) {
		return frame{}, errors.New("a wrong checksum")
	}
	f := frame{base: base, size: size}
	if err := json.Unmarshal(body, &f.record); err != nil {
		return frame{}, fmt.Errorf("a frame that is no record: %w", err)
	}
	if f.record.Seq < base {
		return frame{}, errors.New("a frame out of its batch")
	}
	return f, nil
}
