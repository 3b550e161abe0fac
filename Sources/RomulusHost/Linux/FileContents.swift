import Glibc

/// All of a file at once.
package enum FileContents {
    /// Readers see the old contents or the new ones.
    ///
    /// - Returns: false where it could not be written; then the old ones stay, and errno says why.
    @discardableResult
    static func replace(with bytes: [UInt8], at path: String, mode: mode_t) -> Bool {
        let beside = "\(path).\(getpid()).new"
        let raw = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard raw >= 0 else { return false }
        let count = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
        let isWritten = close(raw) == 0 && count == bytes.count
        guard isWritten, rename(beside, path) == 0 else {
            let code = errno
            unlink(beside)
            errno = code
            return false
        }
        return true
    }

    /// - Returns: at most so many bytes.
    package static func read(_ path: String, limitBytes: Int) throws(SystemError) -> [UInt8] {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { throw SystemError("open \(path)") }
        let file = Descriptor(owning: raw)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(limitBytes, 64 << 10))
        while bytes.count < limitBytes {
            let count = Glibc.read(file.raw, &chunk, min(chunk.count, limitBytes - bytes.count))
            if count < 0 { throw SystemError("read \(path)") }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return bytes
    }
}
