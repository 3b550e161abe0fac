/// What the two sides say of themselves; docs/protocol.md, "Negotiation".
public struct ProtocolVersion: RawRepresentable, Comparable, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let first = ProtocolVersion(rawValue: 1)
    public static let newest = first

    public static func < (one: Self, other: Self) -> Bool { one.rawValue < other.rawValue }
}

/// Extras beyond a version. A side uses one only when both have named it; unknown bits are ignored.
public struct Features: OptionSet, Equatable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// ENCODED_DATA in place of DATA.
    public static let encodedData = Features(rawValue: 1 << 0)
}

/// What both sides have agreed on.
public struct LinkTerms: Equatable, Sendable {
    public var version: ProtocolVersion
    /// How many pages the backup keeps for ENCODED_DATA; 0 where there is none.
    public var pageSlots: Int

    public init(version: ProtocolVersion, pageSlots: Int = 0) {
        self.version = version
        self.pageSlots = pageSlots
    }
}

/// Who decides which copy goes on when the link is silent. Both hosts must have chosen the same.
public enum ArbiterKind: UInt16, Sendable {
    /// Nobody: the backup takes over at its deadline, the primary stays frozen until somebody speaks.
    case none = 0
    case fence = 1
    case lease = 2
    /// What the admins have given both hosts a plugin for.
    case plugin = 3
}

/// The primary's first words: body of the ANNOUNCEMENT record.
public struct Announcement: Equatable, Sendable {
    /// "RMLS" in the order of its bytes on the wire.
    static let magic: UInt32 = 0x534C_4D52
    static let bodyBytes = 20

    public var oldestVersion: ProtocolVersion
    public var newestVersion: ProtocolVersion
    public var features: Features
    /// Names this run, for what both sides write where an arbiter keeps it. Chosen at random.
    public var run: UInt64

    public init(
        oldestVersion: ProtocolVersion = .first, newestVersion: ProtocolVersion = .newest, features: Features = [],
        run: UInt64 = 0
    ) {
        self.oldestVersion = oldestVersion
        self.newestVersion = newestVersion
        self.features = features
        self.run = run
    }

    public func encoded() -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: Self.magic)
        body.append(littleEndian: oldestVersion.rawValue)
        body.append(littleEndian: newestVersion.rawValue)
        body.append(littleEndian: features.rawValue)
        body.append(littleEndian: run)
        return PrivateRecord.encode(PrivateRecord.announcement, body: body)
    }

    public init(recordBody: [UInt8]) throws(StreamError) {
        let body = try PrivateRecord.checkedBody(recordBody, lengthBytes: Self.bodyBytes)
        let magic: UInt32 = body.withUnsafeBytes { $0.littleEndian(at: 0) }
        guard magic == Self.magic else { throw .malformedPrivateRecord }
        oldestVersion = ProtocolVersion(rawValue: body.withUnsafeBytes { $0.littleEndian(at: 4) })
        newestVersion = ProtocolVersion(rawValue: body.withUnsafeBytes { $0.littleEndian(at: 6) })
        features = Features(rawValue: body.withUnsafeBytes { $0.littleEndian(at: 8) })
        run = body.withUnsafeBytes { $0.littleEndian(at: 12) }
        guard oldestVersion.rawValue > 0, oldestVersion <= newestVersion else { throw .malformedPrivateRecord }
    }

    /// The newest version that both sides know, or nil where there is none.
    public func commonVersion(
        oldest: ProtocolVersion = .first, newest: ProtocolVersion = .newest
    ) -> ProtocolVersion? {
        let common = min(newest, newestVersion)
        return common >= max(oldest, oldestVersion) ? common : nil
    }
}

/// The FRAMES_BEGIN record: the version that holds from here on.
public enum FramesBegin {
    static let bodyBytes = 4

    public static func encoded(version: ProtocolVersion) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: version.rawValue)
        body.append(littleEndian: UInt16(0))
        return PrivateRecord.encode(PrivateRecord.framesBegin, body: body)
    }

    public static func version(recordBody: [UInt8]) throws(StreamError) -> ProtocolVersion {
        let body = try PrivateRecord.checkedBody(recordBody, lengthBytes: bodyBytes)
        return ProtocolVersion(rawValue: body.withUnsafeBytes { $0.littleEndian(at: 0) })
    }
}
