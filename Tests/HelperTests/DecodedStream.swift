import Foundation

/// A checkpointed libxl stream by what it says: docs/specs/libxc-migration-stream.pandoc, and nothing of the code under test.
struct DecodedStream {
    struct Page: Equatable {
        var type: UInt64
        var contents: Data?
    }

    struct Record: Equatable, CustomStringConvertible {
        var type: UInt32
        var body: Data

        var description: String { "\(String(type, radix: 16)) (\(body.count) bytes)" }
    }

    /// libxc's two headers.
    let headers: Data
    /// libxc's part alone, to its last whole record.
    private(set) var libxc = Data()
    /// For each complete epoch, the guest as a restorer would have it: its pages so far, without those that are not there.
    private(set) var memories: [[UInt64: Page]] = []
    /// For each complete epoch, the records that are no pages, in their order.
    private(set) var records: [[Record]] = []
    /// For each complete epoch, the pages that it names.
    private(set) var pagesNamed: [Set<UInt64>] = []

    private static let libxlHeaderBytes = 16 + 8
    private static let libxcHeadersBytes = 24 + 16
    private static let missing: UInt64 = 0xF

    init(_ bytes: Data) throws {
        let bytes = Data(bytes)
        var offset = Self.libxlHeaderBytes
        headers = bytes.subdata(in: offset..<offset + Self.libxcHeadersBytes)
        offset += Self.libxcHeadersBytes
        libxc = headers
        var memory: [UInt64: Page] = [:]
        var others: [Record] = []
        var named = Set<UInt64>()
        while bytes.count - offset >= 8 {
            let type = Self.word(bytes, offset, UInt32.self)
            let length = Int(Self.word(bytes, offset + 4, UInt32.self))
            guard bytes.count - offset - 8 >= length else { throw HelperTestError.endOfStream }
            let body = bytes.subdata(in: offset + 8..<offset + 8 + length)
            let end = offset + 8 + (length + 7) / 8 * 8
            libxc += bytes[offset..<end]
            offset = end
            switch type {
            case 1:
                try Self.take(body, into: &memory, &named)
            case 0xE:
                // What follows, up to CHECKPOINT_END, is libxl's; the tests' libxl sends that alone.
                guard Self.word(bytes, offset, UInt32.self) == 4 else { throw HelperTestError.notALibxlStream }
                offset += 8
                memories.append(memory)
                records.append(others)
                pagesNamed.append(named)
                others = []
                named = []
            default:
                others.append(Record(type: type, body: body))
            }
        }
    }

    private static func take(_ body: Data, into memory: inout [UInt64: Page], _ named: inout Set<UInt64>) throws {
        let count = Int(word(body, 0, UInt32.self))
        var contents = 8 + 8 * count
        for index in 0..<count {
            let entry = word(body, 8 + 8 * index, UInt64.self)
            let (type, number) = (entry >> 60, entry & 0xF_FFFF_FFFF_FFFF)
            named.insert(number)
            if type < 13 {
                guard body.count >= contents + 4096 else { throw HelperTestError.endOfStream }
                memory[number] = Page(type: type, contents: body.subdata(in: contents..<contents + 4096))
                contents += 4096
            } else {
                memory[number] = type == missing ? nil : Page(type: type, contents: nil)
            }
        }
        guard contents == body.count else { throw HelperTestError.notALibxlStream }
    }

    private static func word<Value: FixedWidthInteger>(_ data: Data, _ offset: Int, _: Value.Type) -> Value {
        data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Value.self) }
    }
}
