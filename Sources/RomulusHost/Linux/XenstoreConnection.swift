import CXen
import Glibc

/// A connection to xenstore for a thread that must not touch libxl's context. Made before that thread, and gone after it.
///
/// While that thread runs nobody may open or close a handle of Xen's libraries: that takes a lock of theirs
/// (xentoolcore_internal.h), and if libxl forks in the same moment, its child waits for the lock for ever.
public final class XenstoreConnection: @unchecked Sendable {
    /// XBT_NULL.
    public static let noTransaction: xs_transaction_t = 0

    // Used by one thread at a time. Nil where xenstore cannot be reached.
    public let handle: OpaquePointer?

    public init() { handle = xs_open(0) }

    deinit { if let handle { xs_close(handle) } }

    /// - Returns: nil where there is nothing, or xenstore does not answer.
    public func read(_ path: String, in transaction: xs_transaction_t = noTransaction) -> String? {
        var length: UInt32 = 0
        guard let handle, let bytes = xs_read(handle, transaction, path, &length) else { return nil }
        defer { free(bytes) }
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: Int(length)), as: UTF8.self)
    }

    /// What is below a path; nil where xenstore does not answer.
    public func entries(of path: String) -> [String]? {
        var count: UInt32 = 0
        guard let handle else { return nil }
        guard let entries = xs_directory(handle, Self.noTransaction, path, &count) else {
            return errno == ENOENT ? [] : nil
        }
        defer { free(entries) }
        return (0..<Int(count)).compactMap { entries[$0].map { String(cString: $0) } }
    }

    /// A failure to write is none of the caller's.
    public func write(_ path: String, _ text: String, in transaction: xs_transaction_t = noTransaction) {
        if let handle { xs_write(handle, transaction, path, text, UInt32(text.utf8.count)) }
    }

    /// As the guest does: the order to suspend is gone. Another one, or a domain that is gone, is none of ours, whoever is
    /// faster.
    ///
    /// - Returns: whether it was there.
    @discardableResult
    public func takeSuspendOrder(of domainID: UInt32) -> Bool {
        guard let handle else { return false }
        let transaction = xs_transaction_start(handle)
        let isOurs = hasSuspendOrder(domainID, in: transaction)
        if isOurs { write(Self.orderPath(domainID), "", in: transaction) }
        return xs_transaction_end(handle, transaction, !isOurs) && isOurs
    }

    /// Whether somebody has told it to suspend, and it has not taken the order yet.
    public func hasSuspendOrder(_ domainID: UInt32, in transaction: xs_transaction_t = noTransaction) -> Bool {
        read(Self.orderPath(domainID), in: transaction) == "suspend"
    }

    private static func orderPath(_ domainID: UInt32) -> String { "/local/domain/\(domainID)/control/shutdown" }
}
