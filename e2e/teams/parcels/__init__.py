"""A team that lives in the end-to-end journeys: parcels, and models that behave in one of several ways on purpose."""
