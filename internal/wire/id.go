package wire

// RestoreID makes an ID of what its String method gave.
func RestoreID(s string) (id ID) {
	id.n = uint8(copy(id.raw[:], s))
	return id
}
