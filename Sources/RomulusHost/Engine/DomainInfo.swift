import CXen

extension xc_dominfo_t {
    /// Nil for a domain that is gone, or not to be seen: Xen answers with the next one then.
    public init?(of domain: UInt32, _ interface: OpaquePointer?) {
        var info = xc_dominfo_t()
        guard let interface, xc_domain_getinfo(interface, domain, 1, &info) == 1, info.domid == domain else {
            return nil
        }
        self = info
    }
}
