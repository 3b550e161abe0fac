/// The outer stream, libxl's version 2: Xen's docs/specs/libxl-migration-stream.pandoc.
public enum LibxlFormat {
    /// Identifier (8 bytes), version (4), options (4); all three big-endian, unlike everything after them.
    public static let headerBytes = 16
    public static let ident: UInt64 = 0x4C69_6278_6C46_6D74
    public static let version: UInt32 = 2

    /// Type (4 bytes) and body length (4); the body is padded to eight bytes.
    public static let recordHeaderBytes = 8
    /// Ours: libxl states none. A device model's state is a few MiB.
    public static let maximumBodyBytes = 128 << 20

    public struct RecordType: RawRepresentable, Equatable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let end = RecordType(rawValue: 0)
        public static let libxcContext = RecordType(rawValue: 1)
        public static let emulatorXenstoreData = RecordType(rawValue: 2)
        public static let emulatorContext = RecordType(rawValue: 3)
        public static let checkpointEnd = RecordType(rawValue: 4)
        public static let checkpointState = RecordType(rawValue: 5)
    }
}
