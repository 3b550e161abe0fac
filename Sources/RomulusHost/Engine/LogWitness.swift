import CXen
import Glibc
import RomulusCore

/// Tells whether somebody else has used the guest's log of writes: libxc does in every `xl save` and `xl migrate`, which turns
/// the log off and on, takes bits, and turns it off at its end. Later reads then succeed, and say that nothing was written.
///
/// A page that the guest does not write is put into the log each time that it has been read. If it is not there the next time,
/// somebody has been at it.
struct LogWitness {
    private let interface: OpaquePointer?
    private let domain: UInt32
    let page: Int

    static let taken = SystemError(
        "somebody else has used the log of the guest's writes (xl save or xl migrate of a protected guest), so it does not say"
            + " what the replica lacks; do not use what was saved meanwhile", code: EBUSY)

    /// The log must be on.
    ///
    /// - Returns: nil where there is no such page, which no guest of libxenguest's is without.
    init?(_ interface: OpaquePointer?, _ domain: UInt32) {
        // Of a feature of Xen's that does not exist any more; in memory that is reserved for Xen.
        var page: UInt64 = 0
        guard xc_hvm_param_get(interface, domain, UInt32(HVM_PARAM_SHARING_RING_PFN), &page) == 0, page != 0 else {
            return nil
        }
        var type = UInt(page)
        guard xc_get_pfn_type_batch(interface, domain, 1, &type) == 0,
            LibxcFormat.pageTypeHasContents(UInt64(type >> 28 & 0xF)) == true
        else { return nil }
        self.interface = interface
        self.domain = domain
        self.page = Int(page)
    }

    func plant() throws(SystemError) { try Self.mark(page, interface, domain) }

    func isIn(_ words: UnsafePointer<UInt64>) -> Bool { words[page / 64] >> UInt64(page % 64) & 1 != 0 }

    /// Puts a page into the log, if there is one.
    static func mark(_ page: Int, _ interface: OpaquePointer?, _ domain: UInt32) throws(SystemError) {
        guard xc_hvm_modified_memory(interface, domain, UInt64(page), 1) == 0 else {
            throw SystemError("page \(page) of the guest cannot be put into the log of its writes")
        }
    }
}
