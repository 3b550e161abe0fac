/// The inner stream, libxc's version 3: Xen's docs/specs/libxc-migration-stream.pandoc.
public enum LibxcFormat {
    /// Marker (8 bytes of ones), id (4, big-endian), version (4, big-endian), options (2, big-endian), reserved (6).
    public static let imageHeaderBytes = 24
    public static let marker: UInt64 = .max
    public static let id: UInt32 = 0x5845_4E46
    public static let version: UInt32 = 3

    /// The domain header's type of an x86 guest with hardware's help: HVM and PVH.
    public static let guestTypeHVM: UInt32 = 2
    /// Type (4 bytes), page shift (2), reserved (2), Xen's major and minor version (4 each).
    public static let domainHeaderBytes = 16
    public static let pageShift: UInt16 = 12
    public static let pageBytes = 4096

    /// Type (4 bytes) and body length (4); the body is padded to eight bytes.
    public static let recordHeaderBytes = 8
    /// The bound that the stock restorer applies to a record's length.
    public static let maximumBodyBytes = 128 << 20

    /// PAGE_DATA begins with a count (4 bytes) and a reserved word (4), then that many PFNs (8 each).
    public static let pageDataHeaderBytes = 8
    public static let pageTypeShift: UInt64 = 60
    public static let pfnMask: UInt64 = 0x000F_FFFF_FFFF_FFFF
    /// Of a PFN without a page.
    public static let invalidPageType: UInt64 = 15

    public struct RecordType: RawRepresentable, Equatable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let end = RecordType(rawValue: 0x00)
        public static let pageData = RecordType(rawValue: 0x01)
        public static let x86TSCInfo = RecordType(rawValue: 0x08)
        public static let hvmContext = RecordType(rawValue: 0x09)
        public static let hvmParameters = RecordType(rawValue: 0x0A)
        public static let checkpoint = RecordType(rawValue: 0x0E)
        public static let staticDataEnd = RecordType(rawValue: 0x10)
        public static let x86CPUIDPolicy = RecordType(rawValue: 0x11)
        public static let x86MSRPolicy = RecordType(rawValue: 0x12)

        /// A restorer may ignore a record with this bit; the stock one does so only before the first CHECKPOINT.
        public static let optionalBit: UInt32 = 0x8000_0000
        public var isOptional: Bool { rawValue & Self.optionalBit != 0 }
    }

    /// Whether a PFN of this type (bits 63–60) is followed by a page of contents.
    ///
    /// The specification's table: ordinary pages (0) and page tables, pinned or not (1–4, 9–12) are; broken (13),
    /// allocate-only (14) and invalid (15) pages are not; the rest is not defined.
    public static func pageTypeHasContents(_ type: UInt64) -> Bool? {
        switch type {
        case 0...4, 9...12: true
        case 13, 14, 15: false
        default: nil
        }
    }
}
