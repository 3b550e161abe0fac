import Glibc

/// Files that others read while we write them.
enum AtomicFile {
    /// Readers see the old contents or the new ones.
    ///
    /// - Returns: false where it could not be written; then the old ones stay, and errno says why.
    @discardableResult
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t) -> Bool {
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

    /// - Returns: at most so many bytes, or nil where the file cannot be read.
    static func read(_ path: String, limitBytes: Int) -> [UInt8]? {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let file = Descriptor(owning: raw)
        var bytes = [UInt8](repeating: 0, count: limitBytes)
        var filled = 0
        while filled < limitBytes {
            let count = bytes.withUnsafeMutableBytes {
                Glibc.read(file.raw, $0.baseAddress! + filled, limitBytes - filled)
            }
            if count < 0 { return nil }
            if count == 0 { break }
            filled += count
        }
        return Array(bytes.prefix(filled))
    }
}
