/// The stock stream's units where the backup understands encoded pages.
extension OutgoingStream {
    /// Encodes the next unit of what `ring` holds. A page goes in one piece, so one that has not arrived whole is waited for.
    ///
    /// - Returns: the unit, whose bytes the ring may let go of; nil where nothing whole is there.
    public mutating func nextUnit(
        of ring: StagingRing, into encoder: inout PageEncoder
    ) throws(StreamError) -> Unit? {
        cursor.isShowingPages = true
        encoder.begin()
        var unit = Unit(payloadBytes: 0, landmark: nil)
        while unit.payloadBytes < ring.storedBytes {
            let (first, second) = ring.storedParts(from: unit.payloadBytes)
            let boundary: StreamCursor.Boundary?
            if let number = cursor.pageAhead {
                guard ring.storedBytes - unit.payloadBytes >= LibxcFormat.pageBytes, encoder.hasRoomForPage else {
                    break
                }
                boundary = try encodePage(number, first, second, &encoder)
                unit.payloadBytes += LibxcFormat.pageBytes
            } else {
                let room = encoder.literalRoomBytes
                guard room > 0 else { break }
                let piece = first.part(from: 0, count: room)
                let passed: Int
                (passed, boundary) = try cursor.advance(over: piece)
                encoder.literal(piece.part(from: 0, count: passed))
                epochBytes &+= UInt64(passed)
                unit.payloadBytes += passed
            }
            if let boundary, let landmark = landmark(at: boundary) {
                unit.landmark = landmark
                return unit
            }
        }
        return unit.payloadBytes == 0 ? nil : unit
    }

    /// The ring's end may be in the middle of the page.
    private mutating func encodePage(
        _ number: UInt64, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer,
        _ encoder: inout PageEncoder
    ) throws(StreamError) -> StreamCursor.Boundary? {
        epochBytes &+= UInt64(LibxcFormat.pageBytes)
        let head = first.part(from: 0, count: LibxcFormat.pageBytes)
        let (_, boundary) = try cursor.advance(over: head)
        if head.count == LibxcFormat.pageBytes {
            encoder.page(number, head.baseAddress!.assumingMemoryBound(to: UInt8.self))
            return boundary
        }
        let tail = second.part(from: 0, count: LibxcFormat.pageBytes - head.count)
        encoder.page(number, head, tail)
        return try cursor.advance(over: tail).boundary
    }
}
