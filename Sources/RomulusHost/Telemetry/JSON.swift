import CYajl

/// A JSON value, written and read by libyajl.
public enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    /// In their order.
    case object([Member])

    public struct Member: Equatable, Sendable {
        public var name: String
        public var value: JSON

        public init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    public subscript(_ name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// The same object with another value of that name.
    public func with(_ name: String, _ value: JSON) -> JSON {
        guard case .object(let members) = self else { return self }
        return .object(members.map { $0.name == name ? Member(name, value) : $0 })
    }

    public var text: String? { if case .string(let text) = self { text } else { nil } }
    public var isTrue: Bool { self == .bool(true) }

    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        case .null, .bool, .string, .array, .object: nil
        }
    }

    // MARK: Writing

    public func encoded(isIndented: Bool = false) -> String {
        guard let generator = yajl_gen_alloc(nil) else { return "null" }
        defer { yajl_gen_free(generator) }
        if isIndented { romulus_yajl_gen_beautify(generator) }
        write(to: generator)
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        guard yajl_gen_get_buf(generator, &bytes, &count) == yajl_gen_status_ok else { return "null" }
        return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    private func write(to generator: yajl_gen) {
        switch self {
        case .null: yajl_gen_null(generator)
        case .bool(let value): yajl_gen_bool(generator, value ? 1 : 0)
        case .integer(let value): yajl_gen_integer(generator, value)
        // JSON has no word for what is not finite.
        case .number(let value) where !value.isFinite: yajl_gen_null(generator)
        case .number(let value):
            let text = Array(value.description.utf8CString.dropLast())
            yajl_gen_number(generator, text, text.count)
        case .string(let text): Self.write(text, to: generator)
        case .array(let values):
            yajl_gen_array_open(generator)
            for value in values { value.write(to: generator) }
            yajl_gen_array_close(generator)
        case .object(let members):
            yajl_gen_map_open(generator)
            for member in members {
                Self.write(member.name, to: generator)
                member.value.write(to: generator)
            }
            yajl_gen_map_close(generator)
        }
    }

    private static func write(_ text: String, to generator: yajl_gen) {
        var text = text
        text.withUTF8 { _ = yajl_gen_string(generator, $0.baseAddress, $0.count) }
    }

    // MARK: Reading

    /// - Parameter text: at most 1 MiB, and not nested deeper than 32.
    /// - Returns: nil where it is not JSON.
    public init?(parsing text: String) {
        guard text.utf8.count <= 1 << 20, Self.depth(of: text) <= 32, let tree = yajl_tree_parse(text, nil, 0) else {
            return nil
        }
        defer { yajl_tree_free(tree) }
        self.init(tree)
    }

    /// An upper bound: brackets in strings count too.
    private static func depth(of text: String) -> Int {
        var depth = 0
        var deepest = 0
        for byte in text.utf8 {
            if byte == UInt8(ascii: "[") || byte == UInt8(ascii: "{") { depth += 1 }
            if byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}") { depth -= 1 }
            deepest = max(deepest, depth)
        }
        return deepest
    }

    private init(_ tree: yajl_val) {
        let value = tree.pointee
        switch value.type {
        case yajl_t_string: self = .string(String(cString: value.u.string))
        case yajl_t_number:
            let isInteger = value.u.number.flags & UInt32(YAJL_NUMBER_INT_VALID) != 0
            self = isInteger ? .integer(value.u.number.i) : .number(value.u.number.d)
        case yajl_t_object:
            let object = value.u.object
            self = .object(
                (0..<object.len).map { index in
                    Member(String(cString: object.keys[index]!), JSON(object.values[index]!))
                })
        case yajl_t_array:
            let array = value.u.array
            self = .array((0..<array.len).map { JSON(array.values[$0]!) })
        case yajl_t_true: self = .bool(true)
        case yajl_t_false: self = .bool(false)
        default: self = .null
        }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    public init(stringLiteral text: String) { self = .string(text) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
}
