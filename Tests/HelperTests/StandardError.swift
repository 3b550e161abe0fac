import Foundation

/// What this process says to its admin while `body` runs. Lines of others may be among it; all of it is said in the end.
enum StandardError {
    private static let isTaken = NSLock()

    static func captured(while body: () throws -> Void) throws -> String {
        isTaken.lock()
        defer { isTaken.unlock() }
        let file = try OpenFile("/tmp", O_RDWR | __O_TMPFILE | O_DIRECTORY | O_APPEND)
        let original = try OpenFile(duplicating: 2)
        dup2(file.descriptor, 2)
        defer { dup2(original.descriptor, 2) }
        try body()
        dup2(original.descriptor, 2)
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = max(0, pread(file.descriptor, &bytes, bytes.count, 0))
        _ = write(2, bytes, count)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
