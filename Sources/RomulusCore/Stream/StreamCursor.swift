/// Finds the boundaries of the nested streams by lengths alone, however the bytes are cut.
///
/// The two streams take turns on one descriptor: libxl's header and LIBXC_CONTEXT record, libxc's headers and records up
/// to CHECKPOINT, libxl's records up to CHECKPOINT_END, libxc's again (Xen's docs/specs/libxl-migration-stream.pandoc,
/// "Checkpointed streams"). The cursor keeps no byte but a record's header and the body of a private record.
public struct StreamCursor {
    /// A part of the stream that has just been seen to its last byte.
    public enum Boundary: Equatable, Sendable {
        case libxlHeader
        case libxcHeaders
        case libxlRecord(LibxlFormat.RecordType)
        case libxcRecord(LibxcFormat.RecordType)
        /// The list of PFNs of a PAGE_DATA record; only while pages are shown, as the next.
        case pageList
        /// The contents of one page.
        case page(UInt64)
    }

    private enum Expected {
        case libxlHeader
        case libxlRecord
        case libxcImageHeader
        case libxcDomainHeader
        case libxcRecord
        case nothing
    }

    private enum Part {
        /// A header of `neededBytes`, of which `header` holds the first ones.
        case header(neededBytes: Int)
        /// A record's body, padding included.
        case body(remainingBytes: Int, boundary: Boundary)
        /// Within PAGE_DATA's list of PFNs, with what follows it.
        case pageList(remainingBytes: Int, contentsBytes: Int)
        /// Within a page of PAGE_DATA's contents.
        case page(remainingBytes: Int)
    }

    private var expected = Expected.libxlHeader
    private var part = Part.header(neededBytes: LibxlFormat.headerBytes)
    private var header: [UInt8] = []
    private var isCapturing = false

    /// Pages announced by the PAGE_DATA records seen since `takePageCount()`.
    private var pageCount = 0

    /// Whether PAGE_DATA is taken apart.
    public var isShowingPages = false
    private var pageList: [UInt8] = []
    /// The pages that a PAGE_DATA record still holds, last first.
    private var pagesLeft: [UInt64] = []

    /// The body, padding included, of the private record that ended last.
    public private(set) var capturedBody: [UInt8] = []

    public init() {
        header.reserveCapacity(LibxcFormat.imageHeaderBytes)
    }

    /// Whether nothing of a header or record is pending, so that a record may be put in here.
    public var isBetweenLibxcRecords: Bool {
        if case .libxcRecord = expected, case .header = part { header.isEmpty } else { false }
    }

    enum Stream {
        case libxl
        case libxc
    }

    /// What brings the record under way to its end, by lengths alone, and whose records follow then. A type that has not been seen
    /// to its last byte becomes an unknown one. Nil where no record can stand, and while pages are shown.
    func restOfRecord(unknownType: UInt32) -> (bytes: [UInt8], next: Stream)? {
        let stream: Stream
        switch expected {
        case .libxlRecord: stream = .libxl
        case .libxcRecord: stream = .libxc
        case .libxlHeader, .libxcImageHeader, .libxcDomainHeader, .nothing: return nil
        }
        switch part {
        case .header where header.isEmpty: return ([], stream)
        case .header: return restOfHeader(unknownType, stream)
        case .body(let remaining, _): return ([UInt8](repeating: 0, count: remaining), stream)
        case .pageList, .page: return nil
        }
    }

    private func restOfHeader(_ unknownType: UInt32, _ stream: Stream) -> (bytes: [UInt8], next: Stream) {
        let unknown = withUnsafeBytes(of: unknownType.littleEndian) { Array($0) }
        let headerBytes = LibxcFormat.recordHeaderBytes
        var whole = header
        while whole.count < headerBytes { whole.append(whole.count < unknown.count ? unknown[whole.count] : 0) }
        let (type, length): (UInt32, UInt32) = whole.withUnsafeBytes {
            ($0.littleEndian(at: 0), $0.littleEndian(at: 4))
        }
        let zeroes = max(0, headerBytes + paddedLength(Int(length)) - whole.count)
        let ends: UInt32 =
            stream == .libxc
            ? LibxcFormat.RecordType.checkpoint.rawValue : LibxlFormat.RecordType.checkpointEnd.rawValue
        let next: Stream = type != ends ? stream : stream == .libxc ? .libxl : .libxc
        return (Array(whole[header.count...]) + [UInt8](repeating: 0, count: zeroes), next)
    }

    /// The page whose contents the next byte begins.
    public var pageAhead: UInt64? {
        if case .page(LibxcFormat.pageBytes) = part { pagesLeft.last } else { nil }
    }

    public mutating func takePageCount() -> Int {
        defer { pageCount = 0 }
        return pageCount
    }

    /// Moves on to the next boundary or to the end of `bytes`, whichever comes first.
    ///
    /// - Returns: how many bytes were passed, and the boundary that was reached with the last of them.
    public mutating func advance(
        over bytes: UnsafeRawBufferPointer
    ) throws(StreamError) -> (passedBytes: Int, boundary: Boundary?) {
        var passed = 0
        while passed < bytes.count {
            switch part {
            case .header(let needed):
                let take = min(needed - header.count, bytes.count - passed)
                header.append(contentsOf: bytes[passed..<passed + take])
                passed += take
                if header.count == needed, let boundary = try headerCompleted() { return (passed, boundary) }
            case .body(let remaining, let boundary):
                let take = min(remaining, bytes.count - passed)
                if isCapturing { capturedBody.append(contentsOf: bytes[passed..<passed + take]) }
                passed += take
                if take == remaining {
                    recordCompleted(boundary)
                    return (passed, boundary)
                }
                part = .body(remainingBytes: remaining - take, boundary: boundary)
            case .pageList(let remaining, let contents):
                let take = min(remaining, bytes.count - passed)
                pageList.append(contentsOf: bytes[passed..<passed + take])
                passed += take
                part = .pageList(remainingBytes: remaining - take, contentsBytes: contents)
                if take == remaining {
                    try pageListCompleted(contentsBytes: contents)
                    return (passed, .pageList)
                }
            case .page(let remaining):
                let take = min(remaining, bytes.count - passed)
                passed += take
                part = .page(remainingBytes: remaining - take)
                if take == remaining { return (passed, pageCompleted()) }
            }
        }
        return (passed, nil)
    }

    /// Reads the complete header; the boundary is nil when a body follows, or the second of libxc's two headers.
    private mutating func headerCompleted() throws(StreamError) -> Boundary? {
        switch expected {
        case .libxlHeader:
            try checkLibxlHeader()
            expect(.libxlRecord)
            return .libxlHeader
        case .libxcImageHeader:
            try checkLibxcImageHeader()
            expect(.libxcDomainHeader)
            return nil
        case .libxcDomainHeader:
            expect(.libxcRecord)
            return .libxcHeaders
        case .libxlRecord:
            return try libxlRecordHeaderCompleted()
        case .libxcRecord:
            return try libxcRecordHeaderCompleted()
        case .nothing:
            throw .bytesAfterEnd
        }
    }

    private mutating func libxlRecordHeaderCompleted() throws(StreamError) -> Boundary? {
        let type = LibxlFormat.RecordType(rawValue: word(at: 0))
        let length = Int(word(at: 4) as UInt32)
        guard length <= LibxlFormat.maximumBodyBytes else {
            throw .recordTooLong(.libxl, type: type.rawValue, lengthBytes: length)
        }
        guard type.rawValue <= LibxlFormat.RecordType.checkpointState.rawValue else {
            throw .unexpectedRecord(.libxl, type: type.rawValue)
        }
        return bodyBegins(lengthBytes: length, .libxlRecord(type))
    }

    private mutating func libxcRecordHeaderCompleted() throws(StreamError) -> Boundary? {
        let type = LibxcFormat.RecordType(rawValue: word(at: 0))
        let length = Int(word(at: 4) as UInt32)
        guard length <= LibxcFormat.maximumBodyBytes else {
            throw .recordTooLong(.libxc, type: type.rawValue, lengthBytes: length)
        }
        guard type.isOptional || type.rawValue <= LibxcFormat.RecordType.x86MSRPolicy.rawValue else {
            throw .unexpectedRecord(.libxc, type: type.rawValue)
        }
        if type == .pageData {
            guard length >= LibxcFormat.pageDataHeaderBytes else { throw .malformedPageData }
            // The page count stands right behind the record's header: take it along.
            if header.count == LibxcFormat.recordHeaderBytes {
                part = .header(neededBytes: LibxcFormat.recordHeaderBytes + LibxcFormat.pageDataHeaderBytes)
                return nil
            }
            let pages = Int(word(at: LibxcFormat.recordHeaderBytes) as UInt32)
            pageCount &+= pages
            if isShowingPages {
                let contentsBytes = length - LibxcFormat.pageDataHeaderBytes - pages * 8
                guard pages > 0, contentsBytes >= 0 else { throw .malformedPageData }
                pageList.removeAll(keepingCapacity: true)
                part = .pageList(remainingBytes: pages * 8, contentsBytes: contentsBytes)
                return nil
            }
            return bodyBegins(lengthBytes: length, seenBytes: LibxcFormat.pageDataHeaderBytes, .libxcRecord(type))
        }
        if PrivateRecord.isPrivate(type) {
            guard length <= PrivateRecord.maximumBodyBytes else { throw .malformedPrivateRecord }
            isCapturing = true
            capturedBody.removeAll(keepingCapacity: true)
        }
        return bodyBegins(lengthBytes: length, .libxcRecord(type))
    }

    private mutating func bodyBegins(lengthBytes: Int, seenBytes: Int = 0, _ boundary: Boundary) -> Boundary? {
        let remaining = paddedLength(lengthBytes) - seenBytes
        if remaining > 0 {
            part = .body(remainingBytes: remaining, boundary: boundary)
            return nil
        }
        recordCompleted(boundary)
        return boundary
    }

    private mutating func pageListCompleted(contentsBytes: Int) throws(StreamError) {
        pagesLeft.removeAll(keepingCapacity: true)
        for offset in stride(from: pageList.count - 8, through: 0, by: -8) {
            let entry: UInt64 = pageList.withUnsafeBytes { $0.littleEndian(at: offset) }
            if LibxcFormat.pageTypeHasContents(entry >> LibxcFormat.pageTypeShift) == true {
                pagesLeft.append(entry & LibxcFormat.pfnMask)
            }
        }
        guard contentsBytes == pagesLeft.count * LibxcFormat.pageBytes else { throw .malformedPageData }
        nextPage()
    }

    private mutating func pageCompleted() -> Boundary {
        let boundary = Boundary.page(pagesLeft.removeLast())
        nextPage()
        return boundary
    }

    private mutating func nextPage() {
        if pagesLeft.isEmpty { expect(.libxcRecord) } else { part = .page(remainingBytes: LibxcFormat.pageBytes) }
    }

    private mutating func recordCompleted(_ boundary: Boundary) {
        isCapturing = false
        switch boundary {
        case .libxlRecord(.libxcContext): expect(.libxcImageHeader)
        case .libxlRecord(.checkpointEnd): expect(.libxcRecord)
        case .libxlRecord(.end): expect(.nothing)
        case .libxcRecord(.checkpoint), .libxcRecord(.end): expect(.libxlRecord)
        case .libxlRecord: expect(.libxlRecord)
        case .libxcRecord: expect(.libxcRecord)
        case .libxlHeader, .libxcHeaders, .pageList, .page: break
        }
    }

    private mutating func expect(_ next: Expected) {
        expected = next
        header.removeAll(keepingCapacity: true)
        let needed =
            switch next {
            case .libxlHeader: LibxlFormat.headerBytes
            case .libxlRecord: LibxlFormat.recordHeaderBytes
            case .libxcImageHeader: LibxcFormat.imageHeaderBytes
            case .libxcDomainHeader: LibxcFormat.domainHeaderBytes
            case .libxcRecord: LibxcFormat.recordHeaderBytes
            case .nothing: 1
            }
        part = .header(neededBytes: needed)
    }

    private func word<Value: FixedWidthInteger>(at offset: Int) -> Value {
        header.withUnsafeBytes { $0.littleEndian(at: offset) }
    }

    private func checkLibxlHeader() throws(StreamError) {
        let (ident, version, options): (UInt64, UInt32, UInt32) = header.withUnsafeBytes {
            ($0.bigEndian(at: 0), $0.bigEndian(at: 8), $0.bigEndian(at: 12))
        }
        guard ident == LibxlFormat.ident else { throw .badHeader(.libxl) }
        guard version == LibxlFormat.version else { throw .unsupportedVersion(.libxl, version) }
        // Big-endian contents (bit 0) and streams converted from Xen 4.5's (bit 1) are not for us.
        guard options == 0 else { throw .badHeader(.libxl) }
    }

    private func checkLibxcImageHeader() throws(StreamError) {
        let (marker, id, version, options): (UInt64, UInt32, UInt32, UInt16) = header.withUnsafeBytes {
            ($0.bigEndian(at: 0), $0.bigEndian(at: 8), $0.bigEndian(at: 12), $0.bigEndian(at: 16))
        }
        guard marker == LibxcFormat.marker, id == LibxcFormat.id else { throw .badHeader(.libxc) }
        guard version == 2 || version == LibxcFormat.version else { throw .unsupportedVersion(.libxc, version) }
        guard options == 0 else { throw .badHeader(.libxc) }
    }
}
