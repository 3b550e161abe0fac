import CPages

/// libxc's stream, written into memory of the caller's: Xen's docs/specs/libxc-migration-stream.pandoc.
///
/// The caller asks for room before it writes: nothing here grows or allocates.
public struct RecordBuffer {
    private let storage: UnsafeMutableRawBufferPointer
    public private(set) var filledBytes = 0

    public init(storage: UnsafeMutableRawBufferPointer) { self.storage = storage }

    public var filled: UnsafeRawBufferPointer { UnsafeRawBufferPointer(storage).part(from: 0, count: filledBytes) }
    public var freeBytes: Int { storage.count - filledBytes }
    public mutating func reset() { filledBytes = 0 }

    /// Pages in a PAGE_DATA record that, where it begins at a line of 64 bytes, ends at one and has its pages at such: header,
    /// count and list are a page together. For copies that need that.
    public static let alignedPages = (LibxcFormat.pageBytes - recordBytes(body: LibxcFormat.pageDataHeaderBytes)) / 8

    /// With its header and padding.
    public static func recordBytes(body: Int) -> Int { LibxcFormat.recordHeaderBytes + paddedLength(body) }
    /// Of a PAGE_DATA record, where every page has contents.
    public static func pageDataBytes(pages: Int) -> Int {
        recordBytes(body: LibxcFormat.pageDataHeaderBytes + pages * (8 + LibxcFormat.pageBytes))
    }

    /// - Parameter guestType: 2 is an x86 HVM guest (PVH too).
    public mutating func headers(guestType: UInt32, xenMajor: UInt32, xenMinor: UInt32) {
        append(LibxcFormat.marker)
        append(LibxcFormat.id.bigEndian)
        append(LibxcFormat.version.bigEndian)
        append(UInt64(0))
        append(guestType)
        append(UInt32(LibxcFormat.pageShift))
        append(xenMajor)
        append(xenMinor)
    }

    public mutating func record(
        _ type: LibxcFormat.RecordType, _ body: UnsafeRawBufferPointer = .init(start: nil, count: 0)
    ) {
        append(type.rawValue)
        append(UInt32(body.count))
        append(body)
        while filledBytes % 8 != 0 { append(UInt8(0)) }
    }

    /// - Parameters:
    ///   - entries: PFNs with their types in bits 63-60.
    ///   - contents: for each entry its page, nil where the type has none.
    public mutating func pageData(
        _ entries: UnsafeBufferPointer<UInt64>, _ contents: UnsafeBufferPointer<UnsafeRawPointer?>
    ) {
        let start = filledBytes
        append(LibxcFormat.RecordType.pageData.rawValue)
        append(UInt32(0))
        append(UInt64(entries.count))
        append(UnsafeRawBufferPointer(entries))
        let first = storage.baseAddress! + filledBytes
        contents.withMemoryRebound(to: UnsafePointer<UInt8>?.self) { pages in
            let end = romulus_copy_pages(
                first.assumingMemoryBound(to: UInt8.self), pages.baseAddress, pages.count)
            filledBytes += UnsafeRawPointer(end!) - UnsafeRawPointer(first)
        }
        let body = UInt32(filledBytes - start - LibxcFormat.recordHeaderBytes)
        storage.storeBytes(of: body, toByteOffset: start + 4, as: UInt32.self)
    }

    private mutating func append<Value: BitwiseCopyable>(_ value: Value) {
        withUnsafeBytes(of: value) { append($0) }
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: storage[filledBytes..<filledBytes + bytes.count]).copyMemory(
            from: bytes)
        filledBytes += bytes.count
    }
}
