/// Bodies in both of Xen's streams are padded to a multiple of eight bytes.
func paddedLength(_ lengthBytes: Int) -> Int {
    (lengthBytes + 7) & ~7
}
