package config

import (
	"fmt"
	"strconv"

	"github.com/alecthomas/units"
)

// Bytes is a size in bytes. As text it is a plain number, or a number with a
// unit: KiB, MiB, GiB… are powers of 1024; kB or KB, MB, GB… powers of 1000.
type Bytes int64

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		n, err = units.ParseStrictBytes(string(text))
	}
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no size: write a number of bytes or, for instance, 64KiB", text)
	}
	*b = Bytes(n)
	return nil
}

// String writes the size with the largest unit that divides it, so that
// nothing is rounded away.
func (b Bytes) String() string {
	n, unit := int64(b), ""
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return strconv.FormatInt(n, 10) + unit
}
